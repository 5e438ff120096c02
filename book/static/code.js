/* One switch a page for the code that only sets up, captions and judges.
 *
 * Each such cell comes as a closed <details>. This script hides them all and puts one button under
 * the page's title, which shows and opens them. Without it each keeps its own bar. The choice holds
 * for the pages that are opened afterwards, where the browser lets a page remember anything.
 */
(function () {
  "use strict";

  const KEY = "pc-code";
  const CLOSED = ".cell:not(.tag_solution) > details.hide.above-input";

  function remembered() {
    try {
      return window.localStorage.getItem(KEY) === "shown";
    } catch (error) {
      return false;
    }
  }

  function remember(shown) {
    try {
      window.localStorage.setItem(KEY, shown ? "shown" : "hidden");
    } catch (error) {
      /* Nothing depends on it. */
    }
  }

  function apply(article, button, shown) {
    article.classList.toggle("pc-code-hidden", !shown);
    button.setAttribute("aria-pressed", String(shown));
    button.textContent = shown ? "Hide the set-up code" : "Show all code";
    article.querySelectorAll(CLOSED).forEach((one) => {
      one.open = shown;
    });
  }

  function start() {
    const article = document.querySelector("article.bd-article");
    const title = article && article.querySelector("h1");
    if (!title || !article.querySelector(CLOSED)) {
      return;
    }
    const button = document.createElement("button");
    button.type = "button";
    button.className = "pc-code-switch";
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      remember(shown);
      apply(article, button, shown);
    });
    title.insertAdjacentElement("afterend", button);
    apply(article, button, remembered());
  }

  if (document.readyState === "loading") {
    document.addEventListener("DOMContentLoaded", start);
  } else {
    start();
  }
})();
