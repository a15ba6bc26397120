// The charts of the pages. What they show stands in the page: as the data of the place where each is
// drawn, in its caption and in a table. They are drawn anew with every part that is read again.
"use strict";

const HEIGHT = 180;
const FONT = "12px system-ui, sans-serif";
const HOUR_SECONDS = 3600;
const HOURS = [1, 2, 3, 4, 6, 12, 24].map((hours) => hours * HOUR_SECONDS);
const WHOLE = [...Array(12).keys()].flatMap((power) => [1, 2, 5].map((n) => n * 10 ** power));
const DIGIT_PIXELS = 8;
// Of the room that each has; gaps of less than a pixel are none.
const BAR_PART = 0.85;

const drawn = new Map();
const sizes = new ResizeObserver((entries) => {
  // Later: what changes sizes within would be told of again at once.
  requestAnimationFrame(() => entries.forEach((entry) => fit(entry.target)));
});

function fit(place) {
  const chart = drawn.get(place);
  if (chart && chart.width !== place.clientWidth && place.clientWidth > 0) {
    chart.setSize({ width: place.clientWidth, height: HEIGHT });
  }
}

function readColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function tellNumber(number) {
  return Number(number.toPrecision(3)).toLocaleString("en");
}

function tellTime(seconds) {
  return new Date(seconds * 1000).toISOString().slice(11, 16);
}

function describeHistogram({ name, unit, edges, counts, limit }) {
  const tell = (n) => `${tellNumber(edges[n])} to ${tellNumber(edges[n + 1])} ${unit}`;
  return {
    values: [edges.slice(0, -1), counts],
    range: [edges[0], edges.at(-1)],
    axis: { label: `${name}, ${unit}` },
    series: [makeHead(name, tell), makeBars("folds", "run", counts)],
    limit,
  };
}

function describeThroughput({ at, step, tested, failed }) {
  const tell = (n) => `${tellTime(at[n])} to ${tellTime(at[n] + step)}`;
  return {
    // The tested are drawn over all: what is seen of those is the failed. Where none has, there is
    // nothing below, as it would shine through at the edges.
    values: [at, failed.map((n, place) => (n ? n + tested[place] : null)), tested],
    range: [at[0], at.at(-1) + step],
    axis: { label: "time, UTC", incrs: HOURS, values: (chart, times) => times.map(tellTime) },
    series: [makeHead("time", tell), makeBars("failed", "bad", failed), makeBars("tested", "run", tested)],
    limit: null,
  };
}

const DESCRIBE = { histogram: describeHistogram, throughput: describeThroughput };

function makeHead(label, tell) {
  return { label, value: (chart, value, series, n) => (n == null ? "-" : tell(n)) };
}

function makeBars(label, colour, counts) {
  return {
    label,
    fill: readColour(colour),
    stroke: readColour(colour),
    width: 0,
    points: { show: false },
    paths: uPlot.paths.bars({ align: 1, size: [BAR_PART] }),
    value: (chart, value, series, n) => (n == null ? "-" : counts[n].toLocaleString("en")),
  };
}

function makeAxis(options) {
  const line = { stroke: readColour("line"), width: 1 };
  const ink = { stroke: readColour("faint"), font: FONT, labelFont: FONT, labelSize: 18 };
  return { ...ink, grid: line, ticks: { ...line, size: 4 }, gap: 4, ...options };
}

function measureNumbers(chart, numbers) {
  return numbers ? 14 + DIGIT_PIXELS * Math.max(...numbers.map((number) => number.length)) : 30;
}

function findBar(chart, series, nearest, x) {
  // A bar stands behind the value of its beginning; what is nearest may begin behind the pointer.
  return nearest > 0 && chart.data[0][nearest] > x ? nearest - 1 : nearest;
}

function drawLimit(chart, limit) {
  const { ctx, bbox } = chart;
  const x = chart.valToPos(limit, "x", true);
  ctx.save();
  ctx.strokeStyle = readColour("bad");
  ctx.lineWidth = 2 * devicePixelRatio;
  ctx.beginPath();
  ctx.moveTo(x, bbox.top);
  ctx.lineTo(x, bbox.top + bbox.height);
  ctx.stroke();
  ctx.restore();
}

function draw(place) {
  const data = JSON.parse(place.dataset.chart);
  const { values, range, axis, series, limit } = DESCRIBE[data.kind](data);
  const options = {
    width: place.clientWidth,
    height: HEIGHT,
    series,
    scales: {
      x: { time: false, range },
      y: { range: (chart, least, most) => [0, Math.max(most, 1) * 1.05] },
    },
    axes: [makeAxis({ size: 28, ...axis }), makeAxis({ label: "folds", incrs: WHOLE, size: measureNumbers })],
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false }, dataIdx: findBar },
    hooks: { draw: limit === null ? [] : [(chart) => drawLimit(chart, limit)] },
  };
  drawn.set(place, new uPlot(options, values, place));
  sizes.observe(place);
}

function drawAll() {
  // Who points at a bar goes on pointing at it.
  const pointers = Array.from(drawn.values(), ({ cursor: { left, top } }) => ({ left, top }));
  sizes.disconnect();
  drawn.forEach((chart) => chart.destroy());
  drawn.clear();
  document.querySelectorAll("[data-chart]").forEach(draw);
  Array.from(drawn.values()).forEach((chart, n) => pointers[n] && chart.setCursor(pointers[n]));
}

document.addEventListener("htmx:afterSwap", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
drawAll();
