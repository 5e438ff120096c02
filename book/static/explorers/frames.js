/* A slider over still pictures. Those that readers without scripts see are taken from the page. */
each("frames", (root, data) => {
  const shown = [...root.querySelectorAll("img")];
  const sources = data.frames.map((source) => source || shown.shift().src);
  const stills = root.querySelector(".pc-stills");
  const figure = stills.querySelector("figure");
  const picture = figure.querySelector("img");
  const caption = figure.querySelector("figcaption");
  const line = timeline(
    data.name,
    data.labels,
    (moment) => {
      picture.src = sources[moment];
      picture.alt = `${data.alt} ${data.labels[moment]}`;
      caption.textContent = data.labels[moment];
    },
    {}
  );
  stills.replaceChildren(figure);
  root.prepend(line);
});
