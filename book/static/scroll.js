/* Gives what scrolls sideways a place in the order of the Tab key and a name, so that it can be
 * scrolled without a mouse: wide tables, formulas, code and outputs.  What fits gets neither.
 */
(function () {
  "use strict";

  const WIDE =
    ".pc-table, .bd-article table, .bd-article div.math, .bd-article pre, .bd-article .cell_output," +
    ".bd-article mjx-container[display='true'], .pc-figure > div, .bd-article .output, .pc-stills";

  function named(element) {
    const caption = element.querySelector("caption, figcaption");
    const title = caption && caption.textContent.trim().slice(0, 80);
    const kind = element.matches("pre, .output, .cell_output") ? "Code or output" : "Wide content";
    return title || kind;
  }

  function check(element) {
    const wide =
      element.scrollWidth > element.clientWidth + 1 &&
      getComputedStyle(element).overflowX !== "visible";
    if (wide && !element.hasAttribute("tabindex")) {
      element.setAttribute("tabindex", "0");
      element.dataset.scrolls = "";
      if (!element.matches("table") && !element.hasAttribute("role")) {
        element.setAttribute("role", "group");
      }
      if (!element.hasAttribute("aria-label")) {
        element.setAttribute("aria-label", named(element));
      }
    } else if (!wide && "scrolls" in element.dataset) {
      ["tabindex", "data-scrolls"].forEach((name) => element.removeAttribute(name));
    }
  }

  /* What scrolls is looked at again when its own size changes, or that of what is in it. */
  function start() {
    const seen = new ResizeObserver((entries) => {
      // What was taken out of the page meanwhile has no parent.
      const near = entries.flatMap(({ target }) => [target, target.parentElement]).filter(Boolean);
      new Set(near.map((one) => one.closest(WIDE)).filter(Boolean)).forEach(check);
    });
    document.querySelectorAll(WIDE).forEach((one) => {
      [one, ...one.children].forEach((part) => seen.observe(part));
    });
  }

  /* The theme hides its list of sections where something of this class stands in the margin.  It
   * looks for them a moment after this event, and fails on a page that has no such list. */
  document.addEventListener("readystatechange", () => {
    if (document.readyState === "interactive" && document.querySelector(".bd-sidebar-secondary")) {
      document.querySelectorAll(".pc-wide").forEach((one) => one.classList.add("full-width"));
    }
  });
  window.addEventListener("load", start);
})();
