/* Two latent spaces side by side while training goes on: choose a method and a seed for each. The
 * dot under the pointer, or that of the slider below, says which sentence it is; the same sentence is
 * marked in the other space.
 */

const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"]; // Okabe and Ito's
const IN_THE_DARK = ["#56B4E9", "#FF8A4C", "#2FC79A", "#E09AC6", "#E69F00"]; // the same, lighter

/* Bytes of a base64 text: the places of points, 0 to 255 over the axis. */
function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function panel(data, first, moved, pointed) {
  const canvas = make("canvas", { width: 560, height: 560, role: "img" });
  const note = make("p", { class: "pc-player-note" });
  const example = make("p", { class: "pc-player-example" });
  const picker = make("input", { type: "range", min: 0, value: 0, "aria-label": "sequence" });
  let chosen = -1; // the dot that is pointed at
  let track = data.tracks[first];
  let points = bytes(track.points);
  let moment = 0;

  /* The last frame that was recorded by a moment of training. */
  function frame() {
    let place = 0;
    while (place + 1 < track.updates.length && track.updates[place + 1] <= moment) {
      place += 1;
    }
    return place;
  }

  function at(index) {
    const start = 2 * (frame() * track.count + index);
    return [points[start] / 255, points[start + 1] / 255];
  }

  function drawAll() {
    const style = getComputedStyle(canvas);
    const paper = canvas.getContext("2d");
    const size = canvas.width;
    paper.clearRect(0, 0, size, size);
    paper.strokeStyle = style.color;
    paper.globalAlpha = 0.4;
    paper.lineWidth = 1;
    paper.beginPath();
    paper.moveTo(size / 2, 0);
    paper.lineTo(size / 2, size);
    paper.moveTo(0, size / 2);
    paper.lineTo(size, size / 2);
    paper.stroke();
    if (data.diagonal) {
      paper.setLineDash([6, 6]);
      paper.beginPath();
      paper.moveTo(0, size);
      paper.lineTo(size, 0);
      paper.stroke();
      paper.setLineDash([]);
    }
    paper.globalAlpha = 0.7;
    const dark = document.documentElement.dataset.theme === "dark";
    const colours = dark ? IN_THE_DARK : COLOURS;
    for (let index = 0; index < track.count; index += 1) {
      const [x, y] = at(index);
      paper.fillStyle = colours[track.labels ? track.labels[index] % colours.length : 0];
      paper.beginPath();
      paper.arc(x * size, (1 - y) * size, 5, 0, 2 * Math.PI);
      paper.fill();
    }
    paper.globalAlpha = 1;
    if (chosen >= 0) {
      const [x, y] = at(chosen);
      paper.strokeStyle = getComputedStyle(note).color;
      paper.lineWidth = 3;
      paper.beginPath();
      paper.arc(x * size, (1 - y) * size, 11, 0, 2 * Math.PI);
      paper.stroke();
    }
    canvas.setAttribute(
      "aria-label",
      `${data.alt} ${track.method}, seed ${track.seed}, after ${track.updates[frame()]} updates.`
    );
    note.textContent = `after ${track.updates[frame()].toLocaleString("en")} updates`;
    example.textContent = told();
    picker.setAttribute("aria-valuetext", told());
  }

  /* What the chosen dot is: its sentence, and where it is now. */
  function told() {
    if (chosen < 0) {
      return "Point at a dot, or move this slider, to see which sequence it is.";
    }
    const places = at(chosen).map((part) => (data.limit * (2 * part - 1)).toFixed(2));
    const place = data.axes.map((name, axis) => `${name} ${places[axis].replace("-", "−")}`);
    const kind = track.labels ? `, component ${track.labels[chosen] + 1}` : "";
    const text = track.examples === null ? "" : `. ${data.examples[track.examples][chosen]}`;
    return `sequence ${chosen + 1}${kind}: ${place.join(", ")}${text}`;
  }

  /* Marks a dot; -1 marks none. */
  function select(index) {
    chosen = index < track.count ? index : -1;
    picker.value = chosen + 1;
    drawAll();
  }

  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width;
    const y = 1 - (event.clientY - box.top) / box.height;
    let best = -1;
    let least = 0.03;
    for (let index = 0; index < track.count; index += 1) {
      const [a, b] = at(index);
      const apart = Math.hypot(a - x, b - y);
      if (apart < least) {
        [best, least] = [index, apart];
      }
    }
    if (best >= 0 && best !== chosen) {
      pointed(best, track);
    }
  });
  picker.addEventListener("input", () => pointed(Number(picker.value) - 1, track));

  function choose(wanted) {
    const near = data.tracks.filter((one) =>
      Object.entries(wanted).every(([name, value]) => one[name] === value)
    );
    /* What was not chosen stays as it was, where there is such a training. */
    const alike = (one) => 2 * (one.method === track.method) + (one.seed === track.seed);
    track = near.reduce((best, one) => (alike(one) > alike(best) ? one : best));
    points = bytes(track.points);
    chosen = -1;
    build();
    moved();
  }

  const lists = make("div", { class: "pc-player-lists" });
  const root = make("div", { class: "pc-player-panel" }, lists, canvas, note, picker, example);

  /* Lists of what there is: groups, the methods of the group, the seeds of the method. */
  function build() {
    picker.max = track.count;
    picker.value = chosen + 1;
    const focus = [...lists.querySelectorAll("select")].indexOf(document.activeElement);
    const only = (name, fits) => [...new Set(data.tracks.filter(fits).map((one) => one[name]))];
    const groups = only("group", () => true);
    const methods = only("method", (one) => one.group === track.group);
    const seeds = only("seed", (one) => one.group === track.group && one.method === track.method);
    lists.replaceChildren(
      choice("data", groups, groups.indexOf(track.group), (n) => choose({ group: groups[n] })),
      choice("method", methods, methods.indexOf(track.method), (n) =>
        choose({ group: track.group, method: methods[n] })
      ),
      choice("seed", seeds, seeds.indexOf(track.seed), (n) =>
        choose({ group: track.group, method: track.method, seed: seeds[n] })
      )
    );
    if (groups.length < 2) {
      lists.firstChild.remove();
    }
    if (focus >= 0) {
      lists.querySelectorAll("select")[focus].focus();
    }
  }

  build();
  return {
    root: root,
    updates: () => track.updates,
    /* Follows the other panel where both show the same sentences. */
    follow(index, other) {
      if (other === track || (track.examples !== null && track.examples === other.examples)) {
        select(index);
      }
    },
    go(updates) {
      moment = updates;
      drawAll();
    },
    drawAll: drawAll,
  };
}

each("player", (root, data) => {
  let line = null;
  const holder = make("div", {});
  let now = data.playing ? 0 : Infinity; // before it is played, the end is what tells most

  /* A timeline over the moments of both panels; it stays where it was. */
  function build() {
    const all = panels.flatMap((one) => one.updates());
    const moments = [...new Set(all)].sort((a, b) => a - b);
    const first = moments.filter((one) => one <= now).length - 1;
    const begin = data.playing && line === null;
    if (line) {
      line.stop();
    }
    line = timeline(
      "updates",
      moments.map((one) => `after ${one} updates`),
      (place) => {
        now = moments[place];
        panels.forEach((one) => one.go(now));
      },
      { first: Math.max(first, 0), playing: begin, again: data.playing }
    );
    holder.replaceChildren(line);
  }

  const pointed = (index, track) => panels.forEach((one) => one.follow(index, track));
  const panels = data.start.map((first) => panel(data, first, () => build(), pointed));
  root.querySelector(".pc-fallback").replaceWith(
    holder,
    make("div", { class: "pc-player-panels" }, ...panels.map((one) => one.root))
  );
  build();
  new MutationObserver(() => panels.forEach((one) => one.drawAll())).observe(
    document.documentElement,
    { attributes: true, attributeFilter: ["data-theme"] }
  );
});
