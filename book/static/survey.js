/* A blind survey that a reader takes in the page: no kernel, and nothing leaves the browser.
 *
 * Without this script the page shows a plain list of the items. The origins of the sentences come
 * in base64, so that nobody reads them by accident, and are shown after the last answer only. The
 * order follows from a number that the reader can change; companion/autogen/survey.py has the same rule, and a
 * test compares the two.
 */
(function () {
  "use strict";

  const Z = 1.959963984540054; // 97.5 % point of the normal distribution: intervals of 95 %

  /* --- the order ------------------------------------------------------------------------------ */

  /* mulberry32: numbers in [0, 1) from a whole number below 2^32. */
  function stream(seed) {
    let state = seed >>> 0;
    return function () {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    };
  }

  function shuffled(values, next) {
    const found = values.slice();
    for (let last = found.length - 1; last > 0; last -= 1) {
      const place = Math.floor(next() * (last + 1));
      [found[last], found[place]] = [found[place], found[last]];
    }
    return found;
  }

  /* The questions of a seed: pairs with their sides, then single sentences. */
  function order(survey, seed) {
    const next = stream(seed);
    const pairs = shuffled(survey.pairs, next)
      .slice(0, survey.asked)
      .map((one) => ({ id: one.id, kind: "pair", turned: next() < 0.5, item: one }));
    let lines = [];
    survey.key.asked.forEach(([origin, long, count]) => {
      const own = survey.lines.filter(
        (one) => survey.key.lines[one.id] === origin && one.long === long
      );
      lines = lines.concat(shuffled(own, next).slice(0, count));
    });
    lines = shuffled(lines, next).map((one) => ({ id: one.id, kind: "line", item: one }));
    return pairs.concat(lines);
  }

  /* The two sentences of a pair as the seed turns them: places in the item's list. */
  function sides(question) {
    return question.turned ? [1, 0] : [0, 1];
  }

  /* --- the score ------------------------------------------------------------------------------ */

  /* Wilson's interval of a share. */
  function wilson(hits, count) {
    const share = hits / count;
    const scale = 1 + (Z * Z) / count;
    const centre = share + (Z * Z) / (2 * count);
    const half = Z * Math.sqrt((share * (1 - share)) / count + (Z * Z) / (4 * count * count));
    return [Math.max(0, (centre - half) / scale), Math.min(1, (centre + half) / scale)];
  }

  /* Rows of the score: label, hits, answers, interval, what the paper printed. */
  function score(survey, questions, answers) {
    return survey.key.rows.map((row) => {
      let hits = 0;
      let count = 0;
      questions.forEach((one) => {
        if (!(one.id in answers) || row.kind !== one.kind) {
          return;
        }
        if (one.kind === "pair") {
          count += 1;
          hits += Number(answers[one.id] === survey.key.pairs[one.id]);
        } else if (survey.key.lines[one.id] === row.origin && one.item.long === row.long) {
          count += 1;
          hits += Number(answers[one.id] === 1);
        }
      });
      const between = count ? wilson(hits, count) : null;
      return { label: row.label, hits: hits, answers: count, interval: between, printed: row.printed };
    });
  }

  /* --- the page ------------------------------------------------------------------------------- */

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
    element.append(...children);
    return element;
  }

  function button(text, act, kind) {
    const element = make("button", { type: "button", class: kind || "pc-survey-plain" }, text);
    element.addEventListener("click", act);
    return element;
  }

  function percent(share) {
    return (100 * share).toFixed(0);
  }

  /* A table whose first column names the rows; kind is the class of the other cells. */
  function table(caption, heads, rows, kind) {
    const head = make(
      "tr",
      {},
      ...heads.map((name) => make("th", { scope: "col", class: kind }, name))
    );
    const body = rows.map((cells) =>
      make(
        "tr",
        {},
        make("th", { scope: "row" }, cells[0]),
        ...cells.slice(1).map((cell) => make("td", { class: kind }, cell))
      )
    );
    const inner = make("table", {}, make("caption", {}, caption), make("thead", {}, head));
    inner.append(make("tbody", {}, ...body));
    return make("div", { class: "pc-table" }, inner);
  }

  /* Progress is a convenience: a browser that keeps nothing loses nothing else. */
  function keep(name, value) {
    try {
      if (value === null) {
        window.localStorage.removeItem(name);
      } else {
        window.localStorage.setItem(name, JSON.stringify(value));
      }
    } catch (error) {
      /* not allowed here */
    }
  }

  function kept(name) {
    try {
      return JSON.parse(window.localStorage.getItem(name));
    } catch (error) {
      return null;
    }
  }

  function unsealed(text) {
    const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  }

  function prepare(root) {
    const survey = JSON.parse(root.dataset.survey);
    survey.key = unsealed(survey.sealed);
    const name = `pc-survey-${survey.digest}`;
    let seed = survey.seed;
    let questions = [];
    let answers = {};
    let place = 0;

    /* Puts a view in place of the last one; its heading gets the focus, so that it is read out. */
    function show(quiet, ...parts) {
      root.replaceChildren(...parts);
      const head = root.querySelector("[tabindex='-1']");
      if (head && !quiet) {
        head.focus({ preventScroll: true });
      }
    }

    function begin(chosen, before) {
      seed = chosen;
      questions = order(survey, seed);
      answers = before || {};
      place = questions.findIndex((one) => !(one.id in answers));
      place = place < 0 ? questions.length : place;
      ask();
    }

    function forget() {
      keep(name, null);
      answers = {};
      start(false);
    }

    function start(quiet) {
      const field = make("input", {
        type: "number",
        min: "0",
        max: "4294967295",
        step: "1",
        value: String(seed),
        inputmode: "numeric",
      });
      const note = make("p", { class: "pc-survey-note", role: "alert" });
      const count = order(survey, seed).length;
      const form = make(
        "form",
        { novalidate: "" },
        make("label", {}, "Order number ", field),
        make("button", { type: "submit", class: "pc-survey-main" }, `Start: ${count} questions`)
      );
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        if (!/^\d+$/.test(field.value) || Number(field.value) > 4294967295) {
          note.textContent = "The order number is a whole number from 0 to 4294967295.";
          field.setAttribute("aria-invalid", "true");
          field.focus();
          return;
        }
        begin(Number(field.value), null);
      });
      const parts = [
        make("p", { class: "pc-survey-head", tabindex: "-1" }, "The survey"),
        make(
          "p",
          {},
          "The same number gives the same questions in the same order, so two readers can compare."
        ),
        form,
        note,
      ];
      const before = kept(name);
      if (before && before.answers && Object.keys(before.answers).length) {
        const done = Object.keys(before.answers).length;
        parts.push(
          button(`Go on with order ${before.seed}, ${done} answered`, () => {
            begin(before.seed, before.answers);
          })
        );
      }
      show(quiet, ...parts);
    }

    function answer(choice) {
      answers[questions[place].id] = choice;
      keep(name, { seed: seed, answers: answers });
      place += 1;
      ask();
    }

    function choices(question) {
      if (question.kind === "line") {
        return [1, 0].map((value) => [value, value ? "Yes" : "No", ""]);
      }
      return sides(question).map((value, side) => [
        value,
        question.item.texts[value],
        side ? "B" : "A",
      ]);
    }

    function ask() {
      if (place >= questions.length) {
        confirm();
        return;
      }
      const question = questions[place];
      const pair = question.kind === "pair";
      const asked = pair
        ? "Which is the better reconstruction of this sentence?"
        : "Does this sentence make sense?";
      const legend = make(
        "legend",
        { tabindex: "-1", class: "pc-survey-head" },
        `Question ${place + 1} of ${questions.length}. ${asked}`
      );
      const quote = make(
        "blockquote",
        { class: "pc-survey-quote" },
        pair ? question.item.source : question.item.text
      );
      const offered = choices(question).map(([value, text, letter]) => {
        const element = button(text, () => answer(value), "pc-survey-choice");
        element.dataset.choice = String(value);
        element.setAttribute("aria-pressed", String(answers[question.id] === value));
        if (letter) {
          element.prepend(make("span", { class: "pc-survey-letter" }, `${letter}. `));
        }
        return element;
      });
      const group = make("fieldset", { "data-id": question.id }, legend, quote, ...offered);
      const back = button("Back", () => {
        place -= 1;
        ask();
      });
      back.disabled = place === 0;
      const bar = make("progress", {
        max: String(questions.length),
        value: String(place),
        "aria-label": "questions answered",
      });
      const end = button("End here", confirm);
      const controls = make("p", { class: "pc-survey-controls" }, back, end);
      controls.append(button("Start again", forget));
      show(false, bar, group, controls);
    }

    /* The last view before the origins are shown. */
    function confirm() {
      const done = questions.filter((one) => one.id in answers).length;
      const parts = [
        make("p", { class: "pc-survey-head", tabindex: "-1" }, "Ready?"),
        make(
          "p",
          {},
          `You answered ${done} of ${questions.length} questions. ` +
            "The score shows who wrote what, so answers cannot be changed after it."
        ),
      ];
      const controls = make("p", { class: "pc-survey-controls" });
      if (done) {
        controls.append(button("Show the score", finish, "pc-survey-main"));
      }
      controls.append(
        button("Back to the questions", () => {
          place = Math.min(place, questions.length - 1);
          ask();
        }),
        button("Start again", forget)
      );
      show(false, ...parts, controls);
    }

    function share(row) {
      if (!row.answers) {
        return "–";
      }
      const [low, high] = row.interval;
      return `${percent(row.hits / row.answers)} [${percent(low)}, ${percent(high)}]`;
    }

    function origin(question) {
      if (question.kind === "line") {
        return survey.key.names[survey.key.lines[question.id]];
      }
      const better = survey.key.pairs[question.id];
      return survey.key.names[answers[question.id] === better ? "autogen" : "annealed"];
    }

    function said(question) {
      const choice = answers[question.id];
      if (question.kind === "pair") {
        return question.item.texts[choice];
      }
      return `${choice ? "yes" : "no"}: ${question.item.text}`;
    }

    function save(rows) {
      const told = questions.filter((one) => one.id in answers);
      const report = {
        page: survey.key.page,
        digest: survey.digest,
        seed: seed,
        questions: questions.length,
        runs: survey.key.runs,
        answers: told.map((one) => ({
          id: one.id,
          kind: one.kind,
          choice: answers[one.id],
          answer: said(one),
          origin: origin(one),
        })),
        score: rows,
      };
      const blob = new Blob([JSON.stringify(report, null, 1)], { type: "application/json" });
      const link = make("a", {
        href: URL.createObjectURL(blob),
        download: `survey-${survey.digest.slice(0, 8)}-order-${seed}.json`,
      });
      root.append(link);
      link.click();
      link.remove();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    }

    function finish() {
      keep(name, null);
      const rows = score(survey, questions, answers);
      const told = questions.filter((one) => one.id in answers);
      const list = table(
        "Your answers. For a pair: the sentence that you chose, and who wrote it.",
        ["question", "answer", "written by"],
        told.map((one) => [
          String(questions.indexOf(one) + 1),
          said(one),
          origin(one),
        ]),
        "pc-text"
      );
      const details = make("details", {}, make("summary", {}, "Every answer and its origin"), list);
      const controls = make("p", { class: "pc-survey-controls" });
      controls.append(
        button("Save as a file", () => save(rows), "pc-survey-main"),
        button("Start again", forget)
      );
      show(
        false,
        make(
          "p",
          { class: "pc-survey-head", tabindex: "-1" },
          `Your score: ${told.length} answers, order ${seed}`
        ),
        table(
          "Percent of your answers with a 95 % interval (Wilson), beside the paper's percent.",
          ["what", "yours, %", "answers", "printed, %"],
          rows.map((row) => [
            row.label,
            share(row),
            `${row.hits} of ${row.answers}`,
            row.printed === null ? "–" : String(row.printed),
          ]),
          "pc-share"
        ),
        details,
        controls
      );
    }

    start(true);
  }

  function startAll() {
    document.querySelectorAll(".pc-survey[data-survey]").forEach(prepare);
  }

  if (document.readyState === "loading") {
    document.addEventListener("DOMContentLoaded", startAll);
  } else {
    startAll();
  }
})();
