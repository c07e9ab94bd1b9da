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
    let plot = null, text = "";

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

    function axis(ink, more = {}) {
      const font = `11px ${getComputedStyle(host).fontFamily}`;
      return { stroke: ink.muted, font, grid: { stroke: ink.grid, width: 1 }, ticks: { show: false }, ...more };
    }

    function draw() {
      text = source();
      const chart = JSON.parse(text), ink = colours();
      const wide = Math.max(200, host.clientWidth);
      plot?.destroy();
      const isTime = chart.time !== false;
      const second = chart.series.some((one) => one.scale === "y2");
      const scales = { x: { time: isTime } };
      if (chart.zero || chart.series.some((one) => one.bars)) scales.y = { range: (_, low, high) => [Math.min(0, low ?? 0), (high || 1) * 1.06] };
      plot = new uPlot({
        width: wide, height: chart.height || 220, scales, padding: [8, 8, 0, 0],
        cursor: { points: { size: 7 }, drag: { x: true, y: false }, sync: chart.sync ? { key: chart.sync } : undefined },
        series: [{ label: isTime ? "Time" : chart.x_label || "x", value: isTime ? "{YYYY}-{MM}-{DD} {HH}:{mm}" : undefined }, ...chart.series.map((one, i) => series(one, i, ink.hues))],
        axes: [axis(ink, { grid: { show: false }, size: 30 }), axis(ink, { size: 52, values: (_, ticks) => ticks.map((tick) => short.format(tick)) }), ...(second ? [axis(ink, { scale: "y2", side: 1, grid: { show: false }, size: 48, values: (_, ticks) => ticks.map((tick) => short.format(tick)) })] : [])],
      }, [chart.x, ...chart.series.map((one) => one.values)], host);
    }

    draw();
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
