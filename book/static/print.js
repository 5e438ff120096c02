/* What is folded away is printed too, on white paper whatever the page's colours are, and a table
 * that is wider than the paper shrinks until it fits.
 */
(function () {
  "use strict";

  const PAPER = 670; // pixels of a page between its margins, the narrower of A4 and letter
  const root = document.documentElement;
  let opened = [];
  let theme = null;

  function tables() {
    return [...document.querySelectorAll(".bd-article table")];
  }

  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll(".bd-article details:not([open])")];
    opened.forEach((one) => {
      one.open = true;
    });
    theme = root.dataset.theme;
    root.dataset.theme = "light";
    root.classList.add("pc-paper");
    tables().forEach((one) => {
      one.style.width = "min-content";
      const wide = one.offsetWidth;
      one.style.width = "";
      one.style.zoom = wide > PAPER ? PAPER / wide : "";
    });
  });
  window.addEventListener("afterprint", () => {
    opened.forEach((one) => {
      one.open = false;
    });
    tables().forEach((one) => {
      one.style.zoom = "";
    });
    root.dataset.theme = theme;
    root.classList.remove("pc-paper");
  });
})();
