// A live tail of an event stream. Text only ever becomes text. Lines are joined to blocks, so 10,000 a second stay cheap.
(() => {
  const ntd = window.ntd;
  const MAX_LINES = 5000, BLOCK_LINES = 200, FLUSH_MS = 100, LINE_REM = 1.2;

  ntd.modules.log = (host) => {
    const $ = (name) => host.querySelector(`[data-log-${name}]`);
    const view = $("view"), more = $("more"), count = $("count"), find = $("find"), follow = $("follow"), wrap = $("wrap"), full = $("full");
    const decoder = { stdout: new TextDecoder(), stderr: new TextDecoder() };
    const offsets = { stdout: 0, stderr: 0 };
    let marks = []; // where the output was when the execution was sampled
    let queue = [], blocks = [], lines = 0, cut = 0, unseen = 0, following = true, stream = null, timer = 0, lastTop = 0, ended = false;

    // --- the stream

    function connect() {
      stream = new EventSource(host.dataset.src);
      for (const name of ["stdout", "stderr"]) stream.addEventListener(name, (event) => take(name, JSON.parse(event.data)));
      stream.addEventListener("state", (event) => {
        const { state } = JSON.parse(event.data);
        if (state === "starting") offsets.stdout = offsets.stderr = 0; // another attempt begins its output anew
        tellOthers("state", { state });
        say(state);
      });
      stream.addEventListener("usage", (event) => {
        const sample = JSON.parse(event.data);
        queue.push(["usage", sample.at_ms]);
        tellOthers("usage", sample);
      });
      stream.addEventListener("end", () => finish());
      stream.addEventListener("open", () => say(""));
      stream.addEventListener("error", () => {
        if (ended) return;
        if (stream.readyState === EventSource.CLOSED) return say("The output could not be read. Reload the page to try again.");
        say("Connection lost, trying again");
      });
    }

    const tellOthers = (name, detail) => host.dispatchEvent(new CustomEvent(`log:${name}`, { detail }));

    function take(name, piece) {
      const bytes = piece.base64 ? Uint8Array.from(atob(piece.base64), (letter) => letter.charCodeAt(0)) : null;
      const length = bytes ? bytes.length : new TextEncoder().encode(piece.text).length;
      if (Number.isFinite(piece.offset) && piece.offset + length <= offsets[name] && length) return; // repeated after a reconnect
      offsets[name] = Math.max(offsets[name], (piece.offset || 0) + length);
      const text = bytes ? decoder[name].decode(bytes, { stream: true }) : piece.text;
      if (text) queue.push([name, text]);
      timer ||= setTimeout(flush, FLUSH_MS);
    }

    function finish() {
      ended = true;
      stream.close();
      flush();
      say("");
      tellOthers("end", {});
      if (!blocks.length) view.append(ntd.make("div", { className: "log-block state", textContent: "No output." }));
    }

    function say(text) {
      host.dataset.state = text;
      tell(text && text !== "running" ? text : "");
    }

    function tell(text = "") {
      const size = `${lines.toLocaleString("en")} lines${cut ? `, the first ${cut.toLocaleString("en")} left out` : ""}`;
      count.textContent = text || (lines ? size : ended ? "" : "Waiting for output");
    }

    // --- the lines

    function flush() {
      clearTimeout(timer);
      timer = 0;
      if (!queue.length) return;
      const pieces = queue;
      queue = [];
      let added = 0;
      for (const [name, text] of pieces) name === "usage" ? mark(text) : (added += append(name, text));
      trim();
      if (following) toBottom();
      else if ((unseen += added)) showMore();
      tell();
    }

    function append(name, text) {
      $("first")?.remove(); // what the server had drawn; the stream repeats it
      const fresh = text.split("\n").length - 1;
      let block = blocks.at(-1);
      if (!block || block.name !== name || block.lines >= BLOCK_LINES) {
        block = { name, lines: 0, element: view.appendChild(ntd.make("div", { className: `log-block ${name}` })), node: document.createTextNode("") };
        block.element.append(block.node);
        blocks.push(block);
      }
      block.node.appendData(text);
      block.lines += fresh;
      block.element.style.setProperty("contain-intrinsic-block-size", `auto ${Math.max(1, block.lines) * LINE_REM}rem`);
      lines += fresh;
      return fresh;
    }

    function mark(at) {
      const block = blocks.at(-1);
      marks.push({ at, block, end: block ? block.node.length : 0 });
    }

    function trim() {
      while (lines - blocks[0]?.lines >= MAX_LINES) {
        const gone = blocks.shift();
        gone.element.remove();
        lines -= gone.lines;
        cut += gone.lines;
      }
    }

    // --- following and finding

    function toBottom() {
      view.scrollTop = view.scrollHeight;
      requestAnimationFrame(() => { // blocks that come into view take their true height
        if (following) view.scrollTop = view.scrollHeight;
        lastTop = view.scrollTop;
      });
    }

    function showMore() {
      more.hidden = following || !unseen;
      more.textContent = `${unseen.toLocaleString("en")} new ${unseen === 1 ? "line" : "lines"}`;
    }

    function setFollowing(on) {
      following = on;
      follow.setAttribute("aria-pressed", String(on));
      if (on) unseen = 0, toBottom();
      showMore();
    }

    // The last line that was there at a moment of the run.
    function seek({ detail }) {
      flush();
      const { block, end } = marks.findLast((mark) => mark.at <= detail.at_ms && mark.block?.element.isConnected) || {};
      if (!block) return setFollowing(false), (view.scrollTop = 0);
      const range = new Range();
      range.setStart(block.node, block.node.data.lastIndexOf("\n", Math.max(0, end - 2)) + 1);
      range.setEnd(block.node, end);
      if (window.Highlight) CSS.highlights.set("log-find", new Highlight(range));
      reveal(range);
    }

    function reveal(range) {
      setFollowing(false);
      for (let pass = 0; pass < 2; pass++) { // blocks that come into view take their true height
        const box = range.getBoundingClientRect();
        view.scrollTop += box.top - view.getBoundingClientRect().top - view.clientHeight / 2;
        lastTop = view.scrollTop;
      }
    }

    function search() {
      CSS.highlights?.delete("log-find");
      const text = find.value.toLowerCase();
      if (!text) return tell();
      const ranges = [];
      for (const { node } of blocks) {
        const hay = node.data.toLowerCase();
        for (let i = hay.indexOf(text); i >= 0 && ranges.length < 2000; i = hay.indexOf(text, i + text.length)) {
          const range = new Range();
          range.setStart(node, i);
          range.setEnd(node, i + text.length);
          ranges.push(range);
        }
      }
      if (window.Highlight && ranges.length) CSS.highlights.set("log-find", new Highlight(...ranges));
      tell(`${ranges.length}${ranges.length === 2000 ? "+" : ""} found`);
      if (ranges.length) reveal(ranges.at(-1));
    }

    view.addEventListener("scroll", () => {
      const low = view.scrollHeight - view.scrollTop - view.clientHeight < 24;
      const up = view.scrollTop < lastTop - 1; // growing content also scrolls; only going up means "wait"
      lastTop = view.scrollTop;
      if (following ? up && !low : low && !up) setFollowing(!following);
    }, { passive: true });
    follow.addEventListener("click", () => setFollowing(!following));
    more.addEventListener("click", () => setFollowing(true));
    wrap.addEventListener("click", () => {
      const on = host.dataset.wrap !== "on";
      host.dataset.wrap = on ? "on" : "off";
      wrap.setAttribute("aria-pressed", String(on));
    });
    find.addEventListener("input", search);
    find.addEventListener("keydown", (event) => event.key === "Enter" && (event.preventDefault(), search()));
    host.addEventListener("log:seek", seek);
    const fill = (on) => {
      host.toggleAttribute("data-full", on);
      full.setAttribute("aria-pressed", String(on));
      if (following) toBottom();
    };
    full.addEventListener("click", () => fill(!host.hasAttribute("data-full")));
    host.addEventListener("keydown", (event) => event.key === "Escape" && host.hasAttribute("data-full") && fill(false));
    for (const button of host.querySelectorAll("[data-log-show]")) {
      button.addEventListener("click", () => {
        host.dataset.show = button.dataset.logShow;
        for (const other of host.querySelectorAll("[data-log-show]")) other.setAttribute("aria-pressed", String(other === button));
      });
    }

    const seen = new IntersectionObserver(([entry]) => entry.isIntersecting && following && toBottom());
    seen.observe(view);
    if (host.dataset.src) connect();
    tell();
    return {
      destroy() {
        clearTimeout(timer);
        seen.disconnect();
        stream?.close();
      },
    };
  };
})();
