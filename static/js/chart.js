// Mounts uPlot on [data-chart]; the numbers stand in the <script type="application/json"> whose id it names.
(() => {
  const ntd = window.ntd;
  const HUES = ["accent", "warn", "ok", "drain", "err", "busy", "idle"];
  const DASHES = [[], [6, 4], [2, 3], [10, 4, 2, 4], [1, 3], [8, 3], [4, 4]];
  const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
  const exact = new Intl.NumberFormat("en", { maximumFractionDigits: 4 });

  ntd.modules.chart = async (host) => {
    await ntd.loadChart();
    const source = () => document.getElementById(host.dataset.chart)?.textContent || "{}";
    const stop = new AbortController();
    let plot = null, text = "", chart = {};

    const colours = () => {
      const probe = host.appendChild(document.createElement("i"));
      const read = (name) => {
        probe.style.setProperty("color", `var(--${name})`);
        return getComputedStyle(probe).color;
      };
      const found = { hues: HUES.map(read), muted: read("muted"), grid: read("border") };
      probe.remove();
      return found;
    };
    const fade = (colour, share) => colour.replace(/^rgb\((.*)\)$/, `rgba($1, ${share})`);

    function series(one, i, hues) {
      const stroke = hues[i % hues.length];
      const dashed = one.dash ? DASHES[1] : i && !one.bars && !one.step ? DASHES[i % DASHES.length] : [];
      const made = {
        label: one.label, stroke, width: 1.5, dash: dashed, spanGaps: false, points: { show: false }, scale: one.scale || "y",
        value: (_, value) => (value == null ? "–" : exact.format(value) + (one.unit ? ` ${one.unit}` : "")),
      };
      if (one.fill) made.fill = fade(stroke, .12);
      if (one.step) made.paths = uPlot.paths.stepped({ align: 1 });
      if (one.bars) Object.assign(made, { paths: uPlot.paths.bars({ size: [.65, 48], radius: .12 }), fill: fade(stroke, .75), width: 0, dash: [] });
      return made;
    }

    const zone = document.documentElement.dataset.tz || undefined;
    const dates = {};
    const date = (options, tongue = "en-GB") => (seconds) => (dates[JSON.stringify(options)] ||= new Intl.DateTimeFormat(tongue, { timeZone: zone, ...options })).format(seconds * 1000);
    const full = date({ dateStyle: "medium", timeStyle: "short" });

    function times(_, ticks, _axis, _space, step) {
      if (step >= 86400 * 300) return ticks.map(date({ year: "numeric" }));
      if (step >= 86400 * 28) return ticks.map(date({ month: "short", year: "numeric" }, "en-US"));
      if (step >= 86400) return ticks.map(date({ day: "numeric", month: "short" }));
      return ticks.map(date({ hour: "2-digit", minute: "2-digit", ...(step < 60 && { second: "2-digit" }) }));
    }

    // Bars need half a step of room at either end.
    function roomy(xs) {
      const half = xs.length > 1 ? (xs.at(-1) - xs[0]) / (xs.length - 1) / 2 : 1;
      return (_, low, high) => [low - half, high + half];
    }

    function axis(ink, more = {}) {
      const font = `11px ${getComputedStyle(host).fontFamily}`;
      return { stroke: ink.muted, font, grid: { stroke: ink.grid, width: 1 }, ticks: { show: false }, ...more };
    }

    function draw() {
      if (text !== source()) text = source(), chart = JSON.parse(text);
      const ink = colours();
      const wide = Math.max(200, host.clientWidth);
      plot?.destroy();
      const isTime = chart.time !== false;
      const second = chart.series.some((one) => one.scale === "y2");
      const bars = chart.series.some((one) => one.bars);
      const scales = { x: { time: isTime, ...(bars && { range: roomy(chart.x) }) } };
      if (chart.zero || bars) scales.y = { range: (_, low, high) => [Math.min(0, low ?? 0), (high || 1) * 1.06] };
      plot = new uPlot({
        tzDate: (seconds) => (zone ? uPlot.tzDate(new Date(seconds * 1000), zone) : new Date(seconds * 1000)),
        width: wide, height: chart.height || 220, scales, padding: [8, 8, 0, 0],
        cursor: { points: { size: 7 }, drag: { x: true, y: false }, sync: chart.sync ? { key: chart.sync } : undefined },
        series: [{ label: isTime ? "Time" : chart.x_label || "x", value: (_, x) => (x == null ? "–" : isTime ? full(x) : exact.format(x)) }, ...chart.series.map((one, i) => series(one, i, ink.hues))],
        axes: [axis(ink, { grid: { show: false }, size: 30, space: 76, ...(isTime && { values: times }) }), axis(ink, { size: 52, values: (_, ticks) => ticks.map((tick) => short.format(tick)) }), ...(second ? [axis(ink, { scale: "y2", side: 1, grid: { show: false }, size: 48, values: (_, ticks) => ticks.map((tick) => short.format(tick)) })] : [])],
      }, numbers(), host);
      plot.over.addEventListener("click", () => plot.cursor.left >= 0 && host.dispatchEvent(new CustomEvent("chart:pick", { bubbles: true, detail: { x: plot.posToVal(plot.cursor.left, "x") } })));
    }

    const numbers = () => [chart.x, ...chart.series.map((one) => one.values)];

    // New numbers for the same series, of what is live.
    function renew({ detail }) {
      chart = { ...chart, x: detail.x, series: chart.series.map((one, i) => ({ ...one, values: detail.values[i] })) };
      plot?.setData(numbers());
    }

    draw();
    host.addEventListener("chart:data", renew);
    const watcher = new ResizeObserver(() => plot && host.clientWidth > 100 && Math.abs(plot.width - host.clientWidth) > 1 && plot.setSize({ width: host.clientWidth, height: plot.height }));
    watcher.observe(host);
    document.addEventListener("theme:change", draw, { signal: stop.signal });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw, { signal: stop.signal });
    return {
      update: () => source() !== text && source() !== "{}" && draw(),
      destroy() {
        stop.abort();
        watcher.disconnect();
        plot?.destroy();
      },
    };
  };
})();
