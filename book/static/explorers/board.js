/* The leaderboard: one data set at a time as a scatter plot and a table, with methods and columns
 * of choice.  Axes leave outliers out and show them at the border with their number; the line joins
 * the methods that no other one beats in both quantities.
 */

const NARROW = document.documentElement.clientWidth < 600;
const WIDTH = NARROW ? 400 : 720;
const HEIGHT = NARROW ? 380 : 460;
const EDGE = { left: 64, right: 24, top: 24, bottom: 52 };

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function deviation(values) {
  const middle = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - middle) ** 2, 0);
  return Math.sqrt(squares / (values.length - 1));
}

/* A number as the book writes it. */
function written(value, digits) {
  return value.toFixed(digits).replace("-", "−").replace(/^−(0\.?0*)$/, "$1");
}

function cell(values, digits) {
  if (!values) {
    return "–";
  }
  const spread = values.length > 1 ? ` (${written(deviation(values), digits)})` : "";
  return written(mean(values), digits) + spread;
}

/* A quantile by linear interpolation of a sorted sample. */
function quantile(sorted, share) {
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}

/* Tukey's outer fences, no wider than the sample. */
function fences(sample) {
  const sorted = [...sample].sort((a, b) => a - b);
  const [low, high] = [quantile(sorted, 0.25), quantile(sorted, 0.75)];
  const [least, most] = [sorted[0], sorted[sorted.length - 1]];
  if (low === high) {
    return [least, most];
  }
  const reach = 3 * (high - low);
  return [Math.max(least, low - reach), Math.min(most, high + reach)];
}

/* The points that no other one beats in one coordinate and equals in the other. */
function front(points, better) {
  const beats = (a, b) => {
    const ahead = [0, 1].map((axis) => (a.place[axis] - b.place[axis]) * better[axis]);
    return ahead.every((by) => by >= 0) && ahead.some((by) => by > 0);
  };
  return points.filter((one) => !points.some((other) => beats(other, one)));
}

/* Five or so round numbers in a range. */
function ticks(low, high) {
  const rough = (high - low) / 5 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((part) => part * power).find((one) => one >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) {
    found.push(value);
  }
  return [found, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))];
}

function axis(name, values) {
  const [low, high] = fences(values);
  const room = (high - low) * 0.06 || 0.5;
  const range = [low - room, high + room];
  const [from, to] = name === "x" ? [EDGE.left, WIDTH - EDGE.right] : [HEIGHT - EDGE.bottom, EDGE.top];
  return {
    range: range,
    ticks: ticks(...range),
    /* Where a value is drawn, and whether that is at the border in its place. */
    at(value) {
      const inside = Math.min(Math.max(value, low), high);
      const share = (inside - range[0]) / (range[1] - range[0]);
      return [from + share * (to - from), Math.sign(value - inside)];
    },
  };
}

each("board", (root, data) => {
  const metric = Object.fromEntries(data.metrics.map((one) => [one.key, one]));
  const state = { set: data.start, x: "mutual_information", y: "nll", sort: "nll", sign: 1 };
  const few = ["nll", "mutual_information"]; // columns that fit on a phone
  const others = NARROW ? data.metrics.map((one) => one.key).filter((key) => !few.includes(key)) : [];
  const hidden = new Set([...others, "elbo_loss", "active_rank"]);
  let left = new Set(); // methods that are left out

  const measured = () =>
    data.metrics.filter((one) => data.sets[state.set].rows.some((row) => row.values[one.key]));
  const rows = () =>
    data.sets[state.set].rows
      .map((row, place) => ({ ...row, number: place + 1 }))
      .filter((row) => !left.has(row.method));

  /* Marks a method in the plot and in the table at once. */
  function mark(number) {
    root.querySelectorAll("[data-number]").forEach((one) => {
      one.classList.toggle("pc-marked", one.dataset.number === String(number));
    });
  }

  function marker(point, best) {
    const [x, y] = point.drawn;
    const outside = point.sides.some((side) => side !== 0);
    const shape = outside
      ? draw("path", { d: "M-6,4 L6,4 L0,-7 Z" })
      : draw("circle", { r: best ? 6 : 4.5 });
    let turn = 0;
    if (outside) {
      turn = point.sides[1] ? (point.sides[1] > 0 ? 0 : 180) : point.sides[0] > 0 ? 90 : -90;
    }
    shape.setAttribute("transform", `translate(${x},${y}) rotate(${turn})`);
    const kind = `pc-point${best ? " pc-best" : ""}`;
    const told = [state.x, state.y]
      .map((key) => `${metric[key].title} ${cell(point.row.values[key], metric[key].digits)}`)
      .join(", ");
    const group = draw("g", { class: kind, "data-number": point.row.number }, shape);
    group.append(draw("title", {}, `${point.row.number} ${point.row.method}: ${told}`));
    group.addEventListener("pointerenter", () => mark(point.row.number));
    group.addEventListener("pointerleave", () => mark(null));
    return group;
  }

  /* A label beside a point, where it hides no other label; a crowded one is left out. */
  function label(point, taken) {
    const beyond = point.sides
      .map((side, place) => (side ? written(point.place[place], 0) : ""))
      .filter(Boolean)
      .join(", ");
    const text = beyond ? `${point.row.number}: ${beyond}` : String(point.row.number);
    const wide = 7 * text.length;
    const [x, y] = point.drawn;
    const spots = [
      [x + 8, y - 5],
      [x - 8 - wide, y - 5],
      [x + 8, y + 14],
      [x - 8 - wide, y + 14],
      [x - wide / 2, y - 11],
      [x - wide / 2, y + 20],
    ];
    const free = spots.find(
      ([a, b]) =>
        a > EDGE.left &&
        a + wide < WIDTH &&
        taken.every((box) => a + wide < box[0] || a > box[0] + box[2] || Math.abs(b - box[1]) > 11)
    );
    const spot = free || (beyond ? spots[1] : null);
    if (!spot) {
      return [];
    }
    taken.push([spot[0], spot[1], wide]);
    return [draw("text", { x: spot[0], y: spot[1], class: "pc-label" }, text)];
  }

  function plot() {
    const shown = rows().filter((row) => row.values[state.x] && row.values[state.y]);
    const frame = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "pc-plot" });
    const names = [metric[state.x], metric[state.y]];
    const title = `${names[1].title} against ${names[0].title}, ${data.sets[state.set].title}`;
    frame.setAttribute("aria-label", `${title}: ${shown.length} methods, also in the table below.`);
    if (!shown.length) {
      frame.append(draw("text", { x: 80, y: 80, class: "pc-label" }, "No method has both."));
      return [frame, []];
    }
    const points = shown.map((row) => ({
      row: row,
      place: [mean(row.values[state.x]), mean(row.values[state.y])],
    }));
    const axes = ["x", "y"].map((name, n) => axis(name, points.map((one) => one.place[n])));
    points.forEach((one) => {
      const places = axes.map((own, n) => own.at(one.place[n]));
      one.drawn = places.map((place) => place[0]);
      one.sides = places.map((place) => place[1]);
    });
    axes[0].ticks[0].forEach((value) => {
      const x = axes[0].at(value)[0];
      if (!axes[0].at(value)[1]) {
        frame.append(
          draw("line", { x1: x, x2: x, y1: EDGE.top, y2: HEIGHT - EDGE.bottom, class: "pc-grid" }),
          draw("text", { x: x, y: HEIGHT - EDGE.bottom + 18, "text-anchor": "middle" }, written(value, axes[0].ticks[1]))
        );
      }
    });
    axes[1].ticks[0].forEach((value) => {
      const y = axes[1].at(value)[0];
      if (!axes[1].at(value)[1]) {
        frame.append(
          draw("line", { x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y, y2: y, class: "pc-grid" }),
          draw("text", { x: EDGE.left - 8, y: y + 4, "text-anchor": "end" }, written(value, axes[1].ticks[1]))
        );
      }
    });
    const sense = (one) => (one.better ? ` (${one.better > 0 ? "higher" : "lower"} is better)` : "");
    frame.append(
      draw("text", { x: (EDGE.left + WIDTH) / 2, y: HEIGHT - 12, "text-anchor": "middle" }, names[0].title + sense(names[0])),
      draw("text", { transform: `translate(16,${HEIGHT / 2}) rotate(-90)`, "text-anchor": "middle" }, names[1].title + sense(names[1]))
    );
    const senses = names.map((one) => one.better);
    const best = senses.every(Boolean) ? front(points, senses) : [];
    best.sort((a, b) => a.place[0] - b.place[0]);
    const joined = best.map((one, n) => {
      const before = n ? best[n - 1].drawn : null;
      const corner = before ? `L${senses[0] > 0 ? before[0] : one.drawn[0]},${senses[0] > 0 ? one.drawn[1] : before[1]} ` : "";
      return `${n ? corner + "L" : "M"}${one.drawn[0]},${one.drawn[1]}`;
    });
    frame.append(draw("path", { d: joined.join(" ") || "M0,0", class: "pc-front" }));
    points.forEach((one) => frame.append(marker(one, best.includes(one))));
    const taken = [];
    [...best, ...points.filter((one) => !best.includes(one))].forEach((one) =>
      frame.append(...label(one, taken))
    );
    return [frame, best];
  }

  function told(best) {
    if (!best.length) {
      return "No Pareto front: one of the quantities has no better side.";
    }
    const names = best.map((one) => `${one.row.number} ${one.row.method}`).join("; ");
    return (
      `On the Pareto front (orange line), no other method is better in one quantity and as good in ` +
      `the other: ${names}. A triangle at the border is a method beyond the axis, with its number.`
    );
  }

  function columns() {
    return measured().filter((one) => !hidden.has(one.key));
  }

  function sorted() {
    const value = (row) => (row.values[state.sort] ? mean(row.values[state.sort]) : null);
    return rows().sort((a, b) => {
      if (state.sort === "method") {
        return state.sign * a.method.localeCompare(b.method);
      }
      const [one, two] = [value(a), value(b)];
      return one === null || two === null
        ? Number(one === null) - Number(two === null)
        : state.sign * (one - two);
    });
  }

  function head(key, text, meaning) {
    const order = state.sort === key ? (state.sign > 0 ? "ascending" : "descending") : null;
    const act = button(text, () => {
      const first = key === "method" || metric[key].better <= 0 ? 1 : -1;
      state.sign = state.sort === key ? -state.sign : first;
      state.sort = key;
      update();
      root.querySelector(`th[data-key="${key}"] button`).focus();
    });
    return make("th", { scope: "col", title: meaning, "data-key": key, "aria-sort": order }, act);
  }

  function list() {
    const heads = [head("method", "method", "click to sort")];
    columns().forEach((one) => heads.push(head(one.key, one.title, one.meaning)));
    heads.push(make("th", { scope: "col" }, "seeds"));
    const body = sorted().map((row) => {
      const name = make("th", { scope: "row" }, `${row.number} ${row.method}`);
      const cells = columns().map((one) => make("td", {}, cell(row.values[one.key], one.digits)));
      const line = make("tr", { "data-number": row.number }, name, ...cells);
      line.append(make("td", {}, String(row.seeds)));
      line.addEventListener("pointerenter", () => mark(row.number));
      line.addEventListener("pointerleave", () => mark(null));
      return line;
    });
    return make(
      "table",
      {},
      make("caption", {}, `${data.sets[state.set].title}: mean (standard deviation over seeds). Click a column heading to sort.`),
      make("thead", {}, make("tr", {}, ...heads)),
      make("tbody", {}, ...body)
    );
  }

  /* The shown rows and columns as a file, every number unrounded as far as the page has it. */
  function save() {
    const quoted = (text) => `"${String(text).replace(/"/g, '""')}"`;
    const names = columns().flatMap((one) => [one.title, `${one.title} sd`]);
    const lines = [["data", "method", "seeds", ...names].map(quoted).join(",")];
    sorted().forEach((row) => {
      const numbers = columns().flatMap((one) => {
        const values = row.values[one.key];
        return values ? [mean(values), values.length > 1 ? deviation(values) : ""] : ["", ""];
      });
      const first = [data.sets[state.set].title, row.method].map(quoted);
      lines.push([...first, row.seeds, ...numbers].join(","));
    });
    const blob = new Blob([lines.join("\n") + "\n"], { type: "text/csv" });
    const link = make("a", { href: URL.createObjectURL(blob), download: "leaderboard.csv" });
    root.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  /* A folded list of boxes to tick; out holds the names of those that are not. */
  function ticked(title, entries, out) {
    const boxes = entries.map(([key, text]) => {
      const box = make("input", { type: "checkbox" });
      box.checked = !out.has(key);
      box.addEventListener("change", () => {
        out[box.checked ? "delete" : "add"](key);
        update();
      });
      return make("label", {}, box, ` ${text}`);
    });
    const all = (keep) => {
      entries.forEach(([key]) => out[keep ? "delete" : "add"](key));
      boxes.forEach((one) => (one.firstChild.checked = keep));
      update();
    };
    const both = [button("all", () => all(true)), button("none", () => all(false))];
    const name = make("summary", {}, title);
    return make("details", {}, name, make("div", { class: "pc-ticks" }, ...both, ...boxes));
  }

  const controls = make("div", { class: "pc-board-controls" });
  const picture = make("div", { class: "pc-board-plot" });
  const note = make("p", { class: "pc-caption", "aria-live": "polite" });
  const holder = make("div", { class: "pc-table pc-board-table pc-wide", tabindex: 0, role: "region", "aria-label": "Methods" });

  function build() {
    const known = measured();
    ["x", "y"].forEach((name, place) => {
      if (!known.some((one) => one.key === state[name])) {
        state[name] = (known.filter((one) => one.better)[place] || known[place]).key;
      }
    });
    const keys = known.map((one) => one.key);
    const options = known.map((one) => one.meaning);
    const methods = data.sets[state.set].rows.map((row) => [row.method, row.method]);
    const axisChoice = (name, text) =>
      choice(text, options, keys.indexOf(state[name]), (n) => {
        state[name] = keys[n];
        update();
      });
    controls.replaceChildren(
      choice("Data set", data.sets.map((one) => one.title), state.set, (n) => {
        state.set = n;
        left = new Set();
        build();
        controls.querySelector("select").focus();
      }),
      axisChoice("x", "Horizontal axis"),
      axisChoice("y", "Vertical axis"),
      ticked("Methods", methods, left),
      ticked("Columns", known.map((one) => [one.key, one.meaning]), hidden),
      button("Save as CSV", save, {}),
      make("a", { href: data.sets[state.set].page }, "the page with this evidence")
    );
    update();
  }

  function update() {
    const [frame, best] = plot();
    picture.replaceChildren(frame);
    note.textContent = told(best);
    holder.replaceChildren(list());
  }

  root.querySelector(".pc-fallback").replaceWith(controls, picture, note, holder);
  build();
});
