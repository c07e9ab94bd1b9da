// Draws what a running execution uses, from the event stream that its log reads; and ties the charts to the log.
(() => {
  const ntd = window.ntd;
  const NEAR = 0.25, MIB = 1 << 20; // as sandboxes/charts.py has them

  ntd.modules.usage = (host) => {
    const log = document.getElementById(host.dataset.usage);
    const stop = new AbortController();
    const limits = { cpu: 100, memory: Number(host.dataset.memoryMib) };
    let seconds = [], values = { cpu: [], memory: [] }, last = { at_ms: 0, cpu_ms: 0 }, frame = 0;

    function begin() {
      seconds = [], values = { cpu: [], memory: [] }, last = { at_ms: 0, cpu_ms: 0 };
    }

    function take(sample) {
      if (sample.at_ms <= last.at_ms) return; // repeated after a reconnect
      const share = Math.max(0, sample.cpu_ms - last.cpu_ms) / (sample.at_ms - last.at_ms) / Number(host.dataset.cpu);
      seconds.push(sample.at_ms / 1000);
      values.cpu.push(Math.round(share * 1000) / 10);
      values.memory.push(Math.round(sample.memory_bytes / MIB * 100) / 100);
      last = sample;
      frame ||= requestAnimationFrame(show);
    }

    function show() {
      frame = 0;
      host.querySelector("[data-usage-now]").textContent = `CPU ${Math.round(values.cpu.at(-1))} %, memory ${Math.round(values.memory.at(-1))} MiB, disk ${Math.round(last.disk_bytes / MIB)} MiB`;
      if (seconds.length < 2) return;
      host.hidden = false;
      for (const name of ["cpu", "memory"]) {
        const near = Math.max(...values[name]) > limits[name] * NEAR;
        const data = { x: seconds, values: [values[name], values[name].map(() => (near ? limits[name] : null))] };
        host.querySelector(`[data-chart="usage-${name}"]`).dispatchEvent(new CustomEvent("chart:data", { detail: data }));
      }
    }

    host.addEventListener("chart:pick", ({ detail }) => log?.dispatchEvent(new CustomEvent("log:seek", { detail: { at_ms: detail.x * 1000 } })));
    if (log && "liveUsage" in host.dataset) {
      const hear = (name, act) => log.addEventListener(`log:${name}`, ({ detail }) => act(detail), { signal: stop.signal });
      hear("state", ({ state }) => state === "starting" && begin()); // another attempt begins anew
      hear("usage", take);
      hear("end", () => htmx.trigger(host, "usage:end"));
    }
    return {
      destroy() {
        stop.abort();
        cancelAnimationFrame(frame);
      },
    };
  };
})();
