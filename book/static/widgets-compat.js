/* Lets the widget manager, the theme and MathJax 3 live on one page.
 *
 * The theme's Font Awesome replaces every <i> element by an SVG, also those inside widgets. The
 * play button looks for its <i> at each change, throws once that is gone, and every link after it
 * stays dead. So icons inside widgets are marked as done as soon as they appear: an observer runs
 * before any later task, hence before Font Awesome looks.
 *
 * Widgets typeset their labels through MathJax 2's Hub, which MathJax 3 does not have.
 */
(function () {
  "use strict";

  window.FontAwesomeConfig = Object.assign({}, window.FontAwesomeConfig, {
    observeMutations: false,
  });

  function markIcons() {
    const icons = document.querySelectorAll(".jupyter-widgets i:not([data-fa-i2svg])");
    for (const icon of icons) {
      icon.setAttribute("data-fa-i2svg", "");
    }
  }

  new MutationObserver(markIcons).observe(document.documentElement, {
    childList: true,
    subtree: true,
  });

  function typeset(element) {
    const mathjax = window.MathJax;
    if (element && mathjax && mathjax.typesetPromise) {
      mathjax.typesetPromise([element]).catch(function () {});
    }
  }

  const hub = {
    Config: function () {},
    Configured: function () {},
    Queue: function () {
      for (const call of arguments) {
        if (Array.isArray(call) && call[0] === "Typeset") {
          typeset(call[2]);
        } else if (typeof call === "function") {
          call();
        }
      }
    },
  };

  function offerHub() {
    window.MathJax = window.MathJax || {};
    window.MathJax.Hub = window.MathJax.Hub || hub;
  }

  offerHub();
  document.addEventListener("DOMContentLoaded", offerHub);
  window.addEventListener("load", offerHub);
})();
