/* What is folded away is printed too, and on white paper whatever the page's colours are. */
(function () {
  "use strict";

  let opened = [];
  let theme = null;

  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll(".bd-article details:not([open])")];
    opened.forEach((one) => {
      one.open = true;
    });
    theme = document.documentElement.dataset.theme;
    document.documentElement.dataset.theme = "light";
  });
  window.addEventListener("afterprint", () => {
    opened.forEach((one) => {
      one.open = false;
    });
    document.documentElement.dataset.theme = theme;
  });
})();
