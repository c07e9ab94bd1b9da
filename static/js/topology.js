// A topology drawn on two canvases: links below, agents above. Positions come from the server (a unit square);
// changes come as small deltas and repaint at most ten times a second. Nothing runs while nothing changes.
(() => {
  const ntd = window.ntd;
  const MARKS = {
    busy: "busy", running: "busy", starting: "busy", idle: "idle", unknown: "idle", unavailable: "warn", degraded: "warn",
    stale: "warn", lost: "err", failed: "err", unhealthy: "err", healthy: "ok", ready: "ok", active: "ok", draining: "drain", paused: "drain",
  };
  const NAMES = ["ok", "busy", "warn", "err", "idle", "drain"];
  const SIZES = { leader: 1.35, coordinator: 1.22, hub: 1.22 };
  // Above MAX_LINKS only the chosen agent's links are drawn; above HEAVY (agents and links) a hand moves a picture.
  const MAX_LINKS = 8000, HEAVY = 2500, REPAINT_MS = 100, MOVE_MS = 300, REWIRE_MS = 900, LARGEST = 9;
  const PAD = { x: 48, top: 60, bottom: 66 }; // room for the tools, the names and the note
  const word = (text) => String(text || "").replace(/_/g, " ").replace(/^./, (first) => first.toUpperCase());
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  ntd.modules.graph = (host) => {
    const [linkCanvas, linkPen] = layer(), [nodeCanvas, nodePen] = layer();
    const label = host.appendChild(ntd.make("div", { className: "graph-label", hidden: true }));
    const note = host.appendChild(ntd.make("div", { className: "graph-note" }));
    const says = host.parentElement.querySelector("[data-graph-says]");
    const legend = host.parentElement.querySelector("[data-graph-legend]");
    const find = tools();

    let nodes = [], links = [], near = [], index = new Map(), version = null, kind = "";
    let W = 0, H = 0, dpr = 1, R = 5, ink = {}, sprites = {};
    let view = { k: 1, x: 0, y: 0 }, drawn = view, fitted = 1, touched = false, tweening = 0;
    let selected = null, hovered = null, full = true, frame = 0, painted = 0, swept = 0, settleTimer = 0, fetching = null, again = false, fetchedAt = -Infinity;
    const dirty = new Set(), stop = new AbortController();

    function layer() {
      const canvas = host.appendChild(document.createElement("canvas"));
      canvas.setAttribute("aria-hidden", "true");
      return [canvas, canvas.getContext("2d")];
    }

    function tools() {
      const box = ntd.make("div", { className: "graph-tools" });
      const input = ntd.make("input", { className: "input graph-find", type: "search", placeholder: "Find an agent", ariaLabel: "Find an agent" });
      const button = (name, title, act) => {
        const made = ntd.make("button", { type: "button", className: "btn square", ariaLabel: title, title }, ntd.icon(name));
        made.addEventListener("click", act);
        return made;
      };
      const zooms = ntd.make("div", { className: "buttons" }, button("minus", "Zoom out", () => zoom(1 / 1.4)), button("plus", "Zoom in", () => zoom(1.4)), button("maximize", "Fit", () => fit(true)));
      box.append(input, zooms);
      host.append(box);
      return input;
    }

    // --- colours and shapes

    function readInk() {
      const probe = host.appendChild(document.createElement("i"));
      const read = (name) => {
        probe.style.setProperty("color", `var(--${name})`);
        return getComputedStyle(probe).color;
      };
      for (const name of [...NAMES, "surface", "text", "muted", "accent", "border-strong"]) ink[name] = read(name);
      probe.remove();
      sprites = {};
    }

    function shape(pen, mark, r) {
      pen.beginPath();
      if (mark === "busy") pen.moveTo(-r * .8, -r), pen.lineTo(r * 1.1, 0), pen.lineTo(-r * .8, r);
      else if (mark === "warn") pen.moveTo(0, -r * 1.1), pen.lineTo(r * 1.1, r * .85), pen.lineTo(-r * 1.1, r * .85);
      else if (mark === "err") pen.rect(-r * .9, -r * .9, r * 1.8, r * 1.8);
      else if (mark === "drain") pen.moveTo(0, -r * 1.2), pen.lineTo(r * 1.2, 0), pen.lineTo(0, r * 1.2), pen.lineTo(-r * 1.2, 0);
      else pen.arc(0, 0, mark === "idle" ? r * .86 : r, 0, 7);
      pen.closePath();
    }

    function sprite(mark, r, lead) {
      const key = `${mark} ${r} ${lead}`;
      if (sprites[key]) return sprites[key];
      const size = Math.ceil(r * (lead ? 2.2 : 1.5) + 4) * 2;
      const canvas = Object.assign(document.createElement("canvas"), { width: size * dpr, height: size * dpr });
      const pen = canvas.getContext("2d");
      pen.setTransform(dpr, 0, 0, dpr, size * dpr / 2, size * dpr / 2);
      pen.lineJoin = "round";
      if (lead) {
        pen.beginPath();
        pen.arc(0, 0, r * 1.75, 0, 7);
        pen.fillStyle = ink.surface;
        pen.fill();
        pen.lineWidth = 1.5;
        pen.strokeStyle = ink.text;
        pen.stroke();
      }
      shape(pen, mark, r);
      pen.lineWidth = 3;
      pen.strokeStyle = pen.fillStyle = ink.surface;
      pen.stroke();
      pen.fill();
      if (mark === "idle") pen.lineWidth = Math.max(1.5, r * .3), pen.strokeStyle = ink.idle, pen.stroke();
      else pen.fillStyle = ink[mark], pen.fill();
      return (sprites[key] = { canvas, size });
    }

    // --- the snapshot and its changes

    async function fetchSnapshot() {
      if (fetching) return (again = true);
      fetching = new AbortController();
      try {
        await new Promise((done) => setTimeout(done, Math.max(0, 800 - (performance.now() - fetchedAt)))); // at most about one a second
        const answer = await fetch(host.dataset.src, { headers: { Accept: "application/json" }, credentials: "same-origin", signal: fetching.signal });
        if (!answer.ok) throw new Error(`status ${answer.status}`);
        take(await answer.json());
      } catch (error) {
        if (error.name !== "AbortError") note.textContent = "The topology could not be read. It is tried again with the next change.";
      }
      fetchedAt = performance.now();
      fetching = null;
      if (again) again = false, fetchSnapshot();
    }

    function take(snapshot) {
      const before = new Map(nodes.map((node) => [node.id, node])), wasKind = kind;
      nodes = snapshot.nodes.map((row) => {
        const node = Object.fromEntries(snapshot.columns.map((column, i) => [column, row[i]]));
        const { x, y } = node, old = before.get(node.id);
        return Object.assign(node, { mark: MARKS[node.status] || "idle", lead: node.role === "leader", tx: x, ty: y, fx: old?.x ?? x, fy: old?.y ?? y, x: old?.x ?? x, y: old?.y ?? y });
      });
      index = new Map(nodes.map((node, i) => [node.id, i]));
      links = snapshot.links.filter(([a, b]) => nodes[a] && nodes[b]);
      near = nodes.map(() => []);
      for (const [a, b] of links) near[a].push(b), near[b].push(a);
      version = snapshot.version;
      kind = snapshot.topology;
      selected = index.has(selected?.id) ? nodes[index.get(selected.id)] : null;
      hovered = null;
      const moved = before.size && nodes.some((node) => Math.hypot(node.tx - node.x, node.ty - node.y) > .002);
      cancelAnimationFrame(tweening);
      tweening = 0;
      if (moved && !ntd.reduced()) tween(performance.now(), kind === wasKind ? MOVE_MS : REWIRE_MS);
      else nodes.forEach((node) => ((node.x = node.tx), (node.y = node.ty)));
      if (!touched) fit();
      tell();
      if (says && wasKind && kind !== wasKind) says.textContent = `Re-wired as ${kind}, ${count(links.length, "link")}`;
      repaint();
    }

    function tween(begun, length) {
      const step = (now) => {
        const t = clamp((now - begun) / length, 0, 1), eased = t < .5 ? 4 * t ** 3 : 1 - (-2 * t + 2) ** 3 / 2;
        for (const node of nodes) node.x = node.fx + (node.tx - node.fx) * eased, node.y = node.fy + (node.ty - node.fy) * eased;
        tweening = t < 1 && !stop.signal.aborted ? requestAnimationFrame(step) : 0;
        repaint();
      };
      tweening = requestAnimationFrame(step);
    }

    function applyDelta(delta) {
      if (version === null || fetching) return;
      if (delta.v <= version) return;
      if (delta.v0 !== version) return fetchSnapshot();
      version = delta.v;
      for (const [id, status, load] of delta.nodes || []) {
        const i = index.get(id);
        if (i === undefined) return fetchSnapshot();
        nodes[i].load = load;
        if (nodes[i].status !== status) nodes[i].status = status, nodes[i].mark = MARKS[status] || "idle", dirty.add(i);
        if (nodes[i] === selected || nodes[i] === hovered) showLabel();
      }
      tell();
      ask();
    }

    function tell() {
      const shownLinks = links.length > MAX_LINKS ? `${links.length.toLocaleString("en")} links, drawn for the chosen agent` : count(links.length, "link");
      note.textContent = nodes.length ? `${word(kind)} · ${count(nodes.length, "agent")} · ${shownLinks}` : "No agents have joined yet";
      for (const spot of legend?.querySelectorAll("[data-count]") || []) spot.textContent = nodes.reduce((sum, node) => sum + (node.mark === spot.dataset.count), 0).toLocaleString("en");
    }

    // --- painting

    const at = (node) => [node.x * view.k + view.x, node.y * view.k + view.y];
    // Closer by: larger, so that shapes tell apart what colours alone would not.
    const radius = (node) => Math.round(clamp(R * Math.sqrt(Math.max(view.k / fitted, 1)), R, Math.max(R, LARGEST)) * (SIZES[node.role] || 1) * 2) / 2;

    function ask() {
      frame ||= requestAnimationFrame(paint);
    }
    function repaint() {
      full = true;
      ask();
    }

    function paint(now) {
      frame = 0;
      if (!W || stop.signal.aborted) return;
      if (full) return paintAll(now);
      if (!dirty.size) return;
      if (now - painted < REPAINT_MS - 2) return void setTimeout(ask, REPAINT_MS - (now - painted));
      painted = now;
      if (nodes.length <= 600 || now - swept > 1000) return paintNodes(now); // overdrawing leaves hair lines: sweep now and then
      for (const i of dirty) putNode(nodes[i]);
      dirty.clear();
    }

    function paintAll(now) {
      full = false;
      drawn = { ...view };
      linkCanvas.style.transform = nodeCanvas.style.transform = "";
      paintLinks();
      paintNodes(now);
      if (nodes.length && !performance.getEntriesByName("topology-painted").length) performance.mark("topology-painted");
    }

    function paintLinks() {
      linkPen.clearRect(0, 0, W, H);
      linkPen.lineWidth = links.length > 800 ? .6 : 1;
      linkPen.strokeStyle = ink["border-strong"];
      linkPen.globalAlpha = links.length > 800 ? .28 : .45;
      if (links.length <= (tweening ? HEAVY : MAX_LINKS)) strokeLinks(links); // while many move, they move without
      const focus = selected || hovered;
      if (!focus) return;
      const i = index.get(focus.id);
      linkPen.globalAlpha = 1;
      linkPen.lineWidth = 1.5;
      linkPen.strokeStyle = ink.accent;
      strokeLinks(near[i].map((j) => [i, j]));
    }

    function strokeLinks(pairs) {
      linkPen.beginPath();
      for (const [a, b] of pairs) {
        const [ax, ay] = at(nodes[a]), [bx, by] = at(nodes[b]);
        if (ax < 0 && bx < 0 || ay < 0 && by < 0 || ax > W && bx > W || ay > H && by > H) continue;
        linkPen.moveTo(ax, ay), linkPen.lineTo(bx, by);
      }
      linkPen.stroke();
    }

    function putNode(node) {
      const [x, y] = at(node);
      if (x < -30 || y < -30 || x > W + 30 || y > H + 30) return;
      const { canvas, size } = sprite(node.mark, radius(node), node.lead);
      nodePen.drawImage(canvas, x - size / 2, y - size / 2, size, size);
    }

    function paintNodes(now) {
      swept = painted = now;
      dirty.clear();
      nodePen.clearRect(0, 0, W, H);
      for (const node of nodes) putNode(node);
      paintNames();
      for (const node of new Set([hovered, selected])) if (node) paintRing(node);
      placeLabel();
    }

    function paintRing(node) {
      nodePen.beginPath();
      nodePen.arc(...at(node), radius(node) * (node.lead ? 1.75 : 1.2) + 4, 0, 7);
      nodePen.lineWidth = 2;
      nodePen.strokeStyle = ink.accent;
      nodePen.stroke();
    }

    function paintNames() {
      const room = view.k / Math.sqrt(nodes.length || 1);
      if (room < 74) return;
      nodePen.font = `500 11px ${getComputedStyle(host).fontFamily}`;
      nodePen.textAlign = "center";
      nodePen.textBaseline = "top";
      nodePen.lineJoin = "round";
      nodePen.lineWidth = 4;
      nodePen.strokeStyle = ink.surface;
      nodePen.fillStyle = ink.muted;
      const widest = clamp(Math.floor(room / 6.4), 6, 26);
      for (const node of nodes) {
        const [x, y] = at(node);
        if (x < 0 || y < 0 || x > W || y > H || node === selected || node === hovered) continue;
        const name = node.name.length > widest ? `${node.name.slice(0, widest - 1)}…` : node.name;
        const under = y + radius(node) * (node.lead ? 1.75 : 1.1) + 5;
        nodePen.strokeText(name, x, under);
        nodePen.fillText(name, x, under);
      }
    }

    const count = (n, one) => `${n.toLocaleString("en")} ${one}${n === 1 ? "" : "s"}`;
    const reach = (node) => count(near[index.get(node.id)].length, "link");

    // --- the label of the chosen or pointed-at agent

    function showLabel() {
      const node = hovered || selected;
      label.hidden = !node;
      if (!node) return;
      const state = ntd.make("span", { className: `st st-${node.mark}`, textContent: word(node.status) });
      const facts = [node.role && word(node.role), Number.isFinite(node.load) && `load ${Math.round(node.load * 100)} %`, reach(node)].filter(Boolean).join(" · ");
      label.replaceChildren(ntd.make("b", { textContent: node.name }), state, ntd.make("div", { className: "muted", textContent: facts }));
      placeLabel();
    }

    function placeLabel() {
      const node = hovered || selected;
      if (!node || label.hidden) return;
      const [x, y] = at(node), off = radius(node) * 1.8 + 8;
      const left = x + off + label.offsetWidth > W ? x - off - label.offsetWidth : x + off;
      label.style.transform = `translate(${Math.round(clamp(left, 4, W - label.offsetWidth - 4))}px, ${Math.round(clamp(y - label.offsetHeight / 2, 4, H - label.offsetHeight - 4))}px)`;
    }

    function choose(node, { centre = false, aloud = true } = {}) {
      selected = node;
      if (node && aloud && says) says.textContent = `${node.name}, ${word(node.status).toLowerCase()}, ${reach(node)}`;
      if (node && centre) bring(node);
      showLabel();
      repaint();
    }

    function bring(node) {
      const [x, y] = at(node);
      if (x > PAD.x && y > PAD.top && x < W - PAD.x && y < H - PAD.bottom) return;
      touched = true;
      view = { ...view, x: view.x + W / 2 - x, y: view.y + H / 2 - y };
    }

    function open(node) {
      if (node && host.dataset.agentUrl) location.assign(host.dataset.agentUrl.replace("__id__", encodeURIComponent(node.id)));
    }

    // --- moving about

    function fit(byHand = false) {
      if (!nodes.length || !W) return;
      if (byHand) touched = false;
      const xs = nodes.map((node) => node.tx), ys = nodes.map((node) => node.ty);
      const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
      const k = Math.min((W - PAD.x * 2) / Math.max(right - left, .05), (H - PAD.top - PAD.bottom) / Math.max(bottom - top, .05), Math.max(W, H) * 1.5);
      fitted = k;
      view = { k, x: W / 2 - (left + right) / 2 * k, y: (H + PAD.top - PAD.bottom) / 2 - (top + bottom) / 2 * k };
      R = clamp(Math.sqrt(W * H / nodes.length) / 10.5, 3, 9);
      repaint();
    }

    function zoom(factor, x, y) {
      if (x === undefined) [x, y] = selected ? at(selected) : [W / 2, H / 2];
      touched = true;
      const k = clamp(view.k * factor, 40, 60000), real = k / view.k;
      moveTo({ k, x: x - (x - view.x) * real, y: y - (y - view.y) * real });
    }

    function moveTo(next) {
      view = next;
      if (nodes.length + links.length < HEAVY) return repaint();
      const scale = view.k / drawn.k; // a big drawing is moved as a picture and redrawn when the hand rests
      linkCanvas.style.transform = nodeCanvas.style.transform = `translate(${view.x - drawn.x * scale}px, ${view.y - drawn.y * scale}px) scale(${scale})`;
      placeLabel();
      clearTimeout(settleTimer);
      settleTimer = setTimeout(repaint, 120);
    }

    function hit(x, y) {
      let best = null, least = Math.max(R * Math.sqrt(Math.max(view.k / fitted, 1)) * 1.6, 9) ** 2;
      for (const node of nodes) {
        const [nx, ny] = at(node), far = (nx - x) ** 2 + (ny - y) ** 2;
        if (far < least) best = node, least = far;
      }
      return best;
    }

    const hands = new Map();
    let travelled = 0, spread = 0;
    const spot = (event) => {
      const box = host.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    const listen = (name, act, options = {}) => host.addEventListener(name, act, { signal: stop.signal, ...options });

    listen("pointerdown", (event) => {
      if (event.target.closest(".graph-tools") || event.button) return;
      hands.set(event.pointerId, spot(event));
      travelled = 0;
      spread = 0;
      nodeCanvas.setPointerCapture?.(event.pointerId);
    });
    listen("pointermove", (event) => {
      const here = spot(event), before = hands.get(event.pointerId);
      if (!before) return point(event.pointerType === "mouse" && !event.target.closest(".graph-tools") ? hit(here.x, here.y) : null);
      hands.set(event.pointerId, here);
      travelled += Math.hypot(here.x - before.x, here.y - before.y);
      if (hands.size === 2) return pinch();
      if (travelled < 4) return;
      touched = true;
      moveTo({ ...view, x: view.x + here.x - before.x, y: view.y + here.y - before.y });
    });
    listen("pointerup", (event) => {
      const here = spot(event);
      if (!hands.delete(event.pointerId) || travelled > 4 || hands.size) return;
      const node = hit(here.x, here.y);
      if (node && node === selected && event.pointerType !== "mouse") return open(node);
      choose(node);
    });
    listen("pointercancel", (event) => hands.delete(event.pointerId));
    listen("pointerleave", () => point(null));
    listen("dblclick", (event) => {
      const here = spot(event);
      if (!event.target.closest(".graph-tools")) open(hit(here.x, here.y));
    });
    listen("wheel", (event) => {
      if (!(event.ctrlKey || event.metaKey || host.contains(document.activeElement))) return; // else the page scrolls
      event.preventDefault();
      const here = spot(event);
      zoom(Math.exp(-clamp(event.deltaY, -80, 80) * .004), here.x, here.y);
    }, { passive: false });

    function pinch() {
      const [a, b] = [...hands.values()];
      const wide = Math.hypot(a.x - b.x, a.y - b.y);
      if (spread) zoom(wide / spread, (a.x + b.x) / 2, (a.y + b.y) / 2);
      spread = wide;
    }

    function point(node) {
      if (node === hovered) return;
      hovered = node;
      nodeCanvas.style.cursor = node ? "pointer" : "";
      showLabel();
      repaint();
    }

    // --- keyboard

    const WAYS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };

    function towards([dx, dy]) {
      if (!selected) return nodes.find((node) => node.lead) || nodes[0];
      const linked = new Set(near[index.get(selected.id)]);
      let best = null, least = Infinity;
      nodes.forEach((node, i) => {
        const x = node.x - selected.x, y = node.y - selected.y, ahead = x * dx + y * dy, aside = Math.abs(x * dy - y * dx);
        if (node === selected || ahead <= 0 || aside > ahead * 1.6) return;
        const cost = (ahead + aside * 1.5) * (linked.has(i) ? .35 : 1);
        if (cost < least) best = node, least = cost;
      });
      return best;
    }

    function relative(direction) {
      const level = selected?.level ?? 0;
      return selected && near[index.get(selected.id)].map((i) => nodes[i]).find((node) => (node.level - level) * direction > 0);
    }

    const KEYS = {
      "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), f: () => fit(true), 0: () => fit(true),
      Enter: () => open(selected), Escape: () => choose(null), "/": () => find.focus(),
      Home: () => choose(nodes.find((node) => node.lead) || nodes[0], { centre: true }),
      p: () => walk(relative(-1)), c: () => walk(relative(1)),
    };
    const walk = (node) => node && choose(node, { centre: true });

    listen("keydown", (event) => {
      if (event.target !== host || event.ctrlKey || event.metaKey || event.altKey) return;
      const act = WAYS[event.key] ? () => walk(towards(WAYS[event.key])) : KEYS[event.key];
      if (!act || event.key === "Escape" && !selected) return;
      event.preventDefault();
      event.stopPropagation();
      act();
    });

    find.addEventListener("input", () => {
      const text = find.value.trim().toLowerCase();
      const node = text && (nodes.find((one) => one.name.toLowerCase() === text) || nodes.find((one) => one.name.toLowerCase().includes(text)));
      choose(node || null, { centre: true, aloud: Boolean(node) });
    });
    find.addEventListener("keydown", (event) => {
      if (event.key === "Enter") event.preventDefault(), open(selected);
      if (event.key === "Escape") host.focus();
    });

    // --- the world around

    function resize() {
      const [width, height] = [host.clientWidth, host.clientHeight];
      if (!width || !height) return;
      [W, H, dpr] = [width, height, Math.min(devicePixelRatio || 1, 3)];
      sprites = {};
      for (const [canvas, pen] of [[linkCanvas, linkPen], [nodeCanvas, nodePen]]) {
        Object.assign(canvas, { width: W * dpr, height: H * dpr });
        canvas.style.width = `${W}px`;
        canvas.style.height = `${H}px`;
        pen.setTransform(dpr, 0, 0, dpr, 0, 0);
      }
      if (touched) repaint();
      else fit();
    }

    const restyle = () => (readInk(), repaint());
    const watcher = new ResizeObserver(resize);
    watcher.observe(host);
    const world = { signal: stop.signal };
    document.addEventListener("theme:change", restyle, world);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", restyle, world);
    document.body.addEventListener("live:data", (event) => event.detail.topic === host.dataset.topic && applyDelta(event.detail.data), world);
    if (host.dataset.topic) document.body.addEventListener(host.dataset.topic, fetchSnapshot, world);
    readInk();
    resize();
    const ready = fetchSnapshot();
    return {
      ready,
      destroy() {
        stop.abort();
        watcher.disconnect();
        fetching?.abort();
        cancelAnimationFrame(frame);
      },
    };
  };
})();
