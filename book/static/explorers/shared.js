/* What all explorers share. Each explorer's file is put after this one in a function of its own.
 *
 * An explorer is a section that holds what readers without scripts see, and its data as JSON. Its
 * script stands right behind it, in the site as in Jupyter, so a page without explorers loads
 * nothing, and a page from disk works as one from a server does.
 */

/* An element with attributes and children; an attribute that is null is left out. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  Object.entries(attributes || {}).forEach(([name, value]) => {
    if (value !== null && value !== undefined) {
      element.setAttribute(name, value);
    }
  });
  element.append(...children);
  return element;
}

function draw(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
  element.append(...children);
  return element;
}

function button(text, act, attributes) {
  const element = make("button", { type: "button", ...attributes }, text);
  element.addEventListener("click", act);
  return element;
}

/* A list to choose from, with its name in front. */
function choice(name, options, chosen, act) {
  const list = make("select", {});
  options.forEach((text, place) => list.append(make("option", { value: place }, text)));
  list.selectedIndex = chosen;
  list.addEventListener("change", () => act(list.selectedIndex));
  return make("label", {}, `${name} `, list);
}

/* A play button and a slider over the moments of something; show(moment) draws one of them.
 *
 * A moment's label is what a screen reader says. Playing begins by itself only where that is asked
 * for and the reader has not asked for less motion.
 */
function timeline(name, labels, show, options) {
  const last = labels.length - 1;
  const bar = make("input", { type: "range", min: 0, max: last, value: 0, "aria-label": name });
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  let timer = null;
  function go(moment) {
    bar.value = String(moment);
    bar.setAttribute("aria-valuetext", labels[moment]);
    show(moment);
  }
  function stop() {
    window.clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  }
  function start() {
    if (Number(bar.value) === last) {
      go(0);
    }
    play.textContent = "Pause";
    timer = window.setInterval(() => {
      const next = Number(bar.value) + 1;
      if (next > last && !options.again) {
        stop();
        return;
      }
      go(next > last ? 0 : next);
    }, options.pause || 600);
  }
  const play = button("Play", () => (timer === null ? start() : stop()), {});
  bar.addEventListener("input", () => {
    stop();
    go(Number(bar.value));
  });
  go(Math.min(options.first || 0, last));
  if (options.playing && !still) {
    start();
  }
  const line = make("div", { class: "pc-timeline" }, play, bar);
  line.stop = stop;
  return line;
}

/* Readies every explorer of a kind that is on the page and not ready yet. */
function each(kind, prepare) {
  document.querySelectorAll(`.pc-${kind}:not([data-ready])`).forEach((root) => {
    const data = root.querySelector("script[type='application/json']");
    root.dataset.ready = "";
    prepare(root, JSON.parse(data.textContent));
  });
}
