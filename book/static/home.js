/* Plays the posterior mean space on the home page: basic and aggressive training side by side.
 *
 * The points of every recorded moment come with the page, one byte a coordinate. Without this
 * script the last picture stands. Readers who want less motion see it too, and may press play.
 */
(function () {
  "use strict";

  const STEP = 450; // milliseconds from one recorded moment to the next
  const REST = 2500; // at the end

  function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
    return new Int8Array(bytes.buffer);
  }

  function make(tag, attributes) {
    const element = document.createElement(tag);
    Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
    return element;
  }

  function prepare(player) {
    const updates = player.dataset.updates.split(",").map(Number);
    const values = unpack(player.dataset.frames);
    const points = values.length / (4 * updates.length);
    const paths = Array.from(player.querySelectorAll(".pc-dots"));
    const controls = player.querySelector(".pc-controls");
    const shown = controls.querySelector("output");
    const last = updates.length - 1;
    const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    let at = calm ? last : 0;
    let playing = false;
    let before = 0;
    let rested = 0;

    const play = make("button", { type: "button" });
    const bar = make("input", {
      type: "range",
      min: "0",
      max: String(last),
      step: "1",
      "aria-label": "Updates of the decoder",
    });
    controls.prepend(play, bar);

    /* Between two recorded moments the points move in straight lines. */
    function draw() {
      const low = Math.min(Math.floor(at), last);
      const high = Math.min(low + 1, last);
      const share = at - low;
      paths.forEach((path, side) => {
        const parts = [];
        for (let point = 0; point < points; point += 1) {
          const value = (frame, axis) => values[(4 * frame + 2 * side + axis) * points + point];
          const x = value(low, 0) + share * (value(high, 0) - value(low, 0));
          const y = value(low, 1) + share * (value(high, 1) - value(low, 1));
          parts.push(`M${x.toFixed(1)} ${(-y).toFixed(1)}h0`);
        }
        path.setAttribute("d", parts.join(""));
      });
      const told = `update ${updates[low].toLocaleString("en")}`;
      if (shown.textContent !== told) {
        shown.textContent = told;
        bar.value = String(low);
        bar.setAttribute("aria-valuetext", told);
      }
    }

    function tick(now) {
      if (!playing) {
        return;
      }
      const passed = before ? Math.min(now - before, 100) : 0;
      before = now;
      if (at < last) {
        at = Math.min(at + passed / STEP, last);
        draw();
      } else if ((rested += passed) > REST) {
        at = 0;
        rested = 0;
      }
      window.requestAnimationFrame(tick);
    }

    function turn(on) {
      playing = on;
      before = 0;
      rested = 0;
      at = on && at >= last ? 0 : at;
      play.textContent = on ? "Pause" : "Play";
      window.requestAnimationFrame(tick);
    }

    play.addEventListener("click", () => turn(!playing));
    bar.addEventListener("input", () => {
      turn(false);
      at = Number(bar.value);
      draw();
    });
    shown.setAttribute("aria-live", "off");
    draw();
    turn(!calm);
  }

  function start() {
    document.querySelectorAll(".pc-stage").forEach(prepare);
  }

  if (document.readyState === "loading") {
    document.addEventListener("DOMContentLoaded", start);
  } else {
    start();
  }
})();
