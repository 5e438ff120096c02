/* Lets readers sort and filter the tables that ask for it, with no kernel and no request.
 *
 * Without this script such a table is a plain one. A header cell becomes a button; a click sorts
 * by its column and a second click turns the order round. Numbers sort as numbers, cells without
 * one (a dash) come last in either order. The field above keeps the rows that hold every word
 * typed. A column marked data-choose gets a list of its values as well, which an address such as
 * #verdict=holds chooses from.
 */
(function () {
  "use strict";

  function value(row, column) {
    const text = row.cells[column].textContent.trim();
    const number = parseFloat(text.replace(/−/g, "-").replace("∞", "Infinity"));
    return { text: text, number: number, empty: text === "–" || text === "" };
  }

  function compare(a, b, sign) {
    if (a.empty || b.empty) {
      return Number(a.empty) - Number(b.empty);
    }
    if (!Number.isNaN(a.number) && !Number.isNaN(b.number)) {
      return sign * (a.number - b.number);
    }
    return sign * a.text.localeCompare(b.text);
  }

  function sort(table, column, heads) {
    const sign = heads[column].getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    rows.sort((a, b) => compare(value(a, column), value(b, column), sign));
    rows.forEach((row) => body.appendChild(row));
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  }

  function told(row, column) {
    const cell = row.cells[column];
    return cell.dataset.value || cell.textContent.trim();
  }

  /* A list of the values of a column; calls act when another one is chosen. */
  function addChoice(controls, head, column, rows, act) {
    const name = head.textContent.trim();
    const list = document.createElement("select");
    list.append(new Option("all", ""));
    const values = new Set(rows.map((row) => told(row, column)));
    values.forEach((one) => list.append(new Option(one, one)));
    list.addEventListener("change", act);
    const label = document.createElement("label");
    label.className = "pc-filter";
    label.append(`${name} `, list);
    controls.append(label);
    function follow() {
      const asked = new URLSearchParams(window.location.hash.slice(1)).get(name);
      if (asked && values.has(asked)) {
        list.value = asked;
        controls.scrollIntoView();
        act();
      }
    }
    window.addEventListener("hashchange", follow);
    return { column: column, list: list, follow: follow };
  }

  function addFilter(holder, table, heads) {
    const controls = document.createElement("div");
    controls.className = "pc-filters";
    const label = document.createElement("label");
    label.className = "pc-filter";
    const field = document.createElement("input");
    field.type = "search";
    const count = document.createElement("span");
    count.setAttribute("aria-live", "polite");
    const rows = Array.from(table.tBodies[0].rows);
    function apply() {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row) => {
        const text = row.textContent.toLowerCase();
        const typed = words.every((word) => text.includes(word));
        const chosen = choices.every((one) =>
          one.list.value ? told(row, one.column) === one.list.value : true
        );
        row.hidden = !typed || !chosen;
        shown += Number(!row.hidden);
      });
      count.textContent = ` ${shown} of ${rows.length} rows`;
    }
    label.append("Rows that contain ", field, count);
    field.addEventListener("input", apply);
    controls.append(label);
    const choices = heads
      .map((head, column) => [head, column])
      .filter(([head]) => "choose" in head.dataset)
      .map(([head, column]) => addChoice(controls, head, column, rows, () => apply()));
    apply();
    holder.insertBefore(controls, table);
    choices.forEach((one) => one.follow());
  }

  function prepare(holder) {
    const table = holder.querySelector("table");
    if (!table || !table.tHead || table.querySelector("thead button")) {
      return;
    }
    const heads = Array.from(table.tHead.rows[0].cells);
    addFilter(holder, table, heads);
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.addEventListener("click", () => sort(table, column, heads));
      head.replaceChildren(button);
    });
  }

  function start() {
    document.querySelectorAll(".pc-sortable").forEach(prepare);
  }

  if (document.readyState === "loading") {
    document.addEventListener("DOMContentLoaded", start);
  } else {
    start();
  }
})();
