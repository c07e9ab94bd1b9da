// One socket a page. It hears only "this changed"; the elements that care refetch themselves.
//   out  {"op":"sub","topics":[...]}  {"op":"unsub","topics":[...]}
//   in   {"t":"nudge","topics":[...]}  {"t":"data","topic":"..","data":..}  {"t":"resync","topic":".."}
//        {"t":"hello","replay":true}: the server itself repeats what changed since `since`
//        {"t":"bye","code":4403}: a last word before a final close
(() => {
  const body = document.body;
  const path = body.dataset.live;
  if (!path || !window.WebSocket) return;

  const FINAL = {
    4401: "You are signed out. Sign in again to see live changes.",
    4403: "You may no longer see this account live.",
    4429: "Too many pages are open at once. Close some to see live changes here.",
  };
  const WORDS = { live: "Live", connecting: "Connecting", paused: "Paused", off: "Offline" };
  const FIRST_DELAY = 500, LONGEST_DELAY = 30000, PATIENCE = 10000, HIDDEN_GRACE = 5000, SETTLED = 1500;

  let socket = null, topics = new Set(), delay = FIRST_DELAY, opened = 0, final = null, replays = false;
  let retryTimer = 0, pollTimer = 0, patience = 0, hiddenTimer = 0, settled = 0, frame = 0;
  let paused = sessionStorage.getItem("ntd-live") === "paused";
  const waiting = new Set();

  // --- what the page listens for

  function namesIn(element) {
    const named = (element.dataset.topic || "").split(/\s+/);
    for (const spec of (element.getAttribute("hx-trigger") || "").split(",")) {
      if (/\bfrom:\s*body\b/.test(spec)) named.push(spec.trim().split(/\s+/)[0]);
    }
    return named.filter((name) => /^[a-z][\w-]*$/i.test(name));
  }

  function gather() {
    const found = new Map(); // topic -> is anything but a row waiting for it
    for (const element of document.querySelectorAll('[data-topic], [hx-trigger*="from:body"]')) {
      const big = !element.matches("tr, li");
      for (const name of namesIn(element)) found.set(name, found.get(name) || big);
    }
    return found;
  }

  function resubscribe() {
    const found = gather();
    const fresh = [...found.keys()].filter((name) => !topics.has(name));
    const gone = [...topics].filter((name) => !found.has(name));
    topics = new Set(found.keys());
    if (!isOpen()) return;
    if (gone.length) say({ op: "unsub", topics: gone });
    if (!fresh.length) return;
    say({ op: "sub", topics: fresh });
    catchUp(fresh.filter((name) => found.get(name)));
  }

  // What changed between the rendering of the page and the subscription would be lost.
  function catchUp(names) {
    if (!replays) setTimeout(() => names.forEach(nudge), 250);
  }

  // --- events in the page

  function nudge(topic) {
    waiting.add(topic);
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      const now = [...waiting];
      waiting.clear();
      now.forEach((name) => body.dispatchEvent(new CustomEvent(name, { detail: { live: true } })));
    });
  }

  function nudgeAll() {
    topics.forEach(nudge);
  }

  function hear(message) {
    if (message.t === "nudge") message.topics.filter((name) => topics.has(name)).forEach(nudge);
    else if (message.t === "data") body.dispatchEvent(new CustomEvent("live:data", { detail: message }));
    else if (message.t === "resync") nudge(message.topic);
    else if (message.t === "hello") replays = Boolean(message.replay);
    else if (message.t === "bye") final = FINAL[message.code] ? message.code : final;
  }

  // --- the socket

  const isOpen = () => socket?.readyState === WebSocket.OPEN;
  const say = (message) => socket.send(JSON.stringify(message));

  function connect() {
    clearTimeout(retryTimer);
    if (socket || paused || final || document.hidden) return;
    show("connecting");
    patience ||= setTimeout(giveUp, PATIENCE);
    const url = new URL(path, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    socket = new WebSocket(url);
    socket.addEventListener("open", onOpen);
    socket.addEventListener("message", (event) => {
      try { hear(JSON.parse(event.data)); } catch (error) { console.warn("live:", error); }
    });
    socket.addEventListener("close", onClose);
  }

  function onOpen() {
    show("live");
    settled = setTimeout(() => { // a server that accepts and drops at once is not back
      delay = FIRST_DELAY;
      stopPolling();
    }, SETTLED);
    const found = gather();
    topics = new Set(found.keys());
    say({ op: "sub", topics: [...topics], since: document.documentElement.dataset.now });
    if (opened++) nudgeAll();
    else catchUp([...found].filter(([, big]) => big).map(([name]) => name));
  }

  function onClose(event) {
    if (event.target !== socket) return; // closed on purpose
    socket = null;
    clearTimeout(settled);
    if (final || FINAL[event.code]) return finish(final || event.code);
    show("connecting");
    patience ||= setTimeout(giveUp, PATIENCE);
    const jitter = 0.7 + Math.random() * 0.6;
    retryTimer = setTimeout(connect, delay * jitter);
    delay = Math.min(delay * 2, LONGEST_DELAY);
  }

  function disconnect() {
    clearTimeout(retryTimer);
    clearTimeout(settled);
    clearTimeout(patience);
    patience = 0;
    const old = socket;
    socket = null;
    old?.close(1000);
  }

  function finish(code) {
    final = code;
    disconnect();
    stopPolling();
    show("off");
    banner(FINAL[code], code === 4401 ? "Sign in" : "Try again", () => location.reload());
  }

  // --- without a socket for a while: look again now and then

  function giveUp() {
    patience = 0;
    if (paused || final) return;
    show("off");
    banner("Live updates are interrupted. Trying again; meanwhile this page looks every 10 seconds.");
    pollTimer ||= setInterval(() => document.hidden || nudgeAll(), 10000);
  }

  function stopPolling() {
    clearTimeout(patience);
    clearInterval(pollTimer);
    patience = pollTimer = 0;
    document.getElementById("live-banner")?.remove();
  }

  function banner(text, label, act) {
    document.getElementById("live-banner")?.remove();
    const box = document.createElement("div");
    box.id = "live-banner";
    box.className = "banner";
    box.setAttribute("role", "status");
    box.append(Object.assign(document.createElement("span"), { className: "st st-warn" }), text);
    if (label) {
      const button = Object.assign(document.createElement("button"), { className: "btn small", textContent: label });
      button.addEventListener("click", act);
      box.append(button);
    }
    document.getElementById("main")?.prepend(box);
  }

  // --- what the reader sees

  function show(state) {
    for (const dot of document.querySelectorAll("[data-live-dot]")) {
      dot.dataset.state = state;
      dot.firstElementChild.textContent = WORDS[state];
      const button = dot.closest("button");
      button?.setAttribute("aria-pressed", String(state === "paused"));
      button?.setAttribute("title", state === "paused" ? "Resume live updates" : "Pause live updates");
    }
  }

  function pause() {
    paused = true;
    sessionStorage.setItem("ntd-live", "paused");
    disconnect();
    stopPolling();
    show("paused");
  }

  function resume() {
    paused = false;
    sessionStorage.removeItem("ntd-live");
    opened ||= 1; // the page may be old: refresh everything
    connect();
  }

  document.addEventListener("live:toggle", () => (paused ? resume() : pause()));
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiddenTimer);
    if (document.hidden) hiddenTimer = setTimeout(disconnect, HIDDEN_GRACE);
    else connect();
  });
  window.addEventListener("pagehide", disconnect);
  window.addEventListener("pageshow", (event) => event.persisted && connect());
  window.addEventListener("online", () => { delay = FIRST_DELAY; connect(); });
  let later = 0;
  document.addEventListener("htmx:after:swap", () => {
    clearTimeout(later);
    later = setTimeout(resubscribe, 30);
  });

  if (paused) show("paused");
  else connect();
})();
