// Everything a page does by itself: menus, dialogs, toasts, keys, times, theme; and the mounting of logs, graphs and charts.
(() => {
  const root = document.documentElement;
  const script = document.getElementById("app-js").dataset;
  const $ = (selector, from = document) => from.querySelector(selector);
  const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];
  const make = (tag, props = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), props);
    element.append(...children);
    return element;
  };

  function icon(name) {
    const box = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    use.setAttribute("href", `${script.icons}#${name}`);
    box.setAttribute("class", "icon");
    box.setAttribute("aria-hidden", "true");
    box.append(use);
    return box;
  }

  // --- toasts

  const PICTURES = { success: "circle-check", info: "info", warning: "triangle-alert", error: "circle-alert" };

  function toast({ level = "info", text = "", html } = {}) {
    const box = $("#toasts");
    if (!box || !(text || html)) return;
    const kind = level in PICTURES ? level : "info";
    const close = make("button", { type: "button", ariaLabel: "Close" }, icon("x"));
    const note = make("div", { className: `toast ${kind}` }, icon(PICTURES[kind]), html || make("p", { textContent: text }), close);
    note.setAttribute("role", kind === "error" ? "alert" : "status");
    close.addEventListener("click", () => leave(note));
    while (box.children.length > 2) box.firstElementChild.remove();
    if (box.matches(":popover-open")) box.hidePopover();
    box.showPopover?.(); // again, so that it lies above any dialog
    box.append(note);
    if (kind !== "error") later(note, kind === "warning" ? 8000 : 5000);
  }

  function later(note, ms) {
    setTimeout(() => (note.matches(":hover, :focus-within") ? later(note, 2000) : leave(note)), ms);
  }

  function leave(note) {
    note.classList.add("leaving");
    setTimeout(() => note.remove(), 160);
  }

  function adoptMessages() {
    for (const notice of $$("[data-messages] > .notice")) {
      const level = ["success", "warning", "error"].find((name) => notice.classList.contains(name));
      toast({ level: level || "info", html: notice.querySelector("p") });
      notice.remove();
    }
    $$("[data-messages]").forEach((box) => (box.hidden = true));
  }

  document.addEventListener("toast", (event) => toast(event.detail));

  // --- answers that are not what was asked for

  const REASONS = {
    400: "The server could not read that request.", 401: "Please sign in again.", 402: "There are not enough credits for that.",
    403: "Your role does not allow that.", 404: "It is not there any more.", 409: "It changed meanwhile. Look again before you retry.",
    410: "It is gone.", 413: "That is too large.", 429: "Too many requests. Try again in a moment.",
  };
  const isNudge = (ctx) => Boolean(ctx.sourceEvent?.detail?.live) || ["load", "every"].includes(ctx.sourceEvent?.type);

  document.addEventListener("htmx:before:response", (event) => {
    const { ctx } = event.detail;
    const url = new URL(ctx.response.raw.url, location.href);
    if (!ctx.response.raw.redirected || !script.login || url.pathname !== new URL(script.login, location.href).pathname) return;
    event.preventDefault(); // signed out meanwhile: show the sign-in page itself, not a piece of it
    location.assign(`${script.login}?next=${encodeURIComponent(location.pathname + location.search)}`);
  });

  document.addEventListener("htmx:after:request", (event) => {
    const { ctx } = event.detail;
    const status = ctx.response.status;
    const meant = status < 400 || status === 422 || ctx.hx.retarget || ctx.hx.reswap || ctx.sourceElement.getAttribute?.(`hx-status:${status}`);
    if (meant) return;
    if (ctx.sourceElement._htmx?.boosted) return event.preventDefault(), location.assign(ctx.request.action);
    ctx.text = "";
    ctx.swap = isNudge(ctx) && (status === 404 || status === 410) ? "delete" : "none";
    ctx.title = null;
    if (isNudge(ctx) || ctx.hx.trigger?.includes('"toast"')) return;
    const asked = ctx.response.headers.get("X-Request-ID");
    toast({ level: "error", text: REASONS[status] || `Something broke on our side${asked ? ` (request ${asked})` : ""}. Try again.` });
  });

  document.addEventListener("htmx:error", (event) => {
    const { ctx, error } = event.detail;
    if (!ctx || isNudge(ctx) || error?.name === "AbortError" && !error.message) return;
    toast({ level: "error", text: "The server could not be reached. Check the connection and try again." });
  });

  // What somebody typed or chose and has not sent yet.
  const isChanged = (field) => {
    if (field.matches("select")) return [...field.options].some((each) => each.defaultSelected) ? [...field.options].some((each) => each.selected !== each.defaultSelected) : field.selectedIndex > 0;
    return /^(checkbox|radio)$/.test(field.type) ? field.checked !== field.defaultChecked : field.type !== "hidden" && field.value !== field.defaultValue;
  };

  // What somebody is working in is not replaced under their hands, nor while they are asked, nor before they read what was wrong.
  document.addEventListener("htmx:before:request", (event) => {
    const { ctx } = event.detail;
    const element = ctx.sourceElement;
    if (!isNudge(ctx) || !element.contains) return;
    const asking = $("#confirm[open]");
    const busy = $("input:focus, select:focus, textarea:focus, :popover-open, details[open].menu, form .errors", element);
    if (!asking && !busy && ![...element.querySelectorAll("form :is(input, select, textarea)")].some(isChanged)) return;
    event.preventDefault();
    const again = () => setTimeout(() => htmx.trigger(element, ctx.sourceEvent.type, { live: true }), 50);
    (asking || element).addEventListener(asking ? "close" : "focusout", again, { once: true });
  });

  // --- asking first

  function ask({ text, word, label }) {
    const dialog = $("#confirm");
    const typed = $("[data-confirm-typed]", dialog), field = $("input", typed), yes = $("[data-confirm-yes]", dialog);
    $("[data-confirm-text]", dialog).textContent = text;
    $("[data-confirm-expected]", dialog).textContent = word || "";
    typed.hidden = !word;
    field.value = "";
    yes.textContent = label || "Go on";
    const check = () => (yes.disabled = Boolean(word) && field.value.trim() !== word);
    field.oninput = check;
    check();
    dialog.returnValue = "no";
    dialog.showModal();
    (word ? field : $('button[value="no"]', dialog)).focus();
    return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
  }

  document.addEventListener("htmx:confirm", (event) => {
    const { ctx, issueRequest, dropRequest } = event.detail;
    const { confirmWord: word, confirmLabel: label } = ctx.sourceElement.dataset;
    event.preventDefault();
    ask({ text: ctx.confirm, word, label }).then((yes) => (yes ? issueRequest() : dropRequest()));
  });

  const agreed = new WeakSet();
  document.addEventListener("submit", (event) => {
    const asker = event.submitter?.dataset.confirm ? event.submitter : event.target;
    const { confirm: text, confirmWord: word, confirmLabel: label } = asker.dataset;
    if (!text || agreed.delete(event.target)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    ask({ text, word, label }).then((yes) => {
      if (!yes) return;
      agreed.add(event.target);
      event.target.requestSubmit(event.submitter);
    });
  }, true);

  // --- small acts: data-action

  const remember = (name, value) => (document.cookie = `ntd_${name}=${value};path=/;max-age=31536000;samesite=lax`);
  const ACTIONS = {
    "nav-open": () => (root.dataset.nav = "open", $("#nav a[aria-current]")?.focus()),
    "nav-close": closeNav,
    theme: (button) => choose("theme", button.dataset.value),
    density: () => choose("density", root.dataset.density === "compact" ? "" : "compact"),
    palette: openPalette,
    keys: () => $("#keys").showModal(),
    "live-pause": () => document.dispatchEvent(new Event("live:toggle")),
    "single-keys": () => (localStorage.setItem("ntd-keys", singleKeys() ? "off" : "on"), showChoices()),
    copy: copyFrom,
    dialog: (button) => $(button.dataset.dialog)?.showModal(),
    close: (button) => button.closest("dialog")?.close(),
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-action]");
    if (button && ACTIONS[button.dataset.action]) {
      event.preventDefault();
      ACTIONS[button.dataset.action](button);
    } else if (root.dataset.nav && !event.target.closest("#nav")) closeNav();
    if (event.target.matches("dialog.drawer, dialog.palette, #keys")) event.target.close(); // the backdrop
  });

  function closeNav() {
    delete root.dataset.nav;
  }

  function choose(name, value) {
    if (value) root.dataset[name] = value;
    else delete root.dataset[name];
    remember(name, value);
    showChoices();
    document.dispatchEvent(new Event("theme:change"));
  }

  const singleKeys = () => localStorage.getItem("ntd-keys") !== "off";

  function showChoices() {
    for (const button of $$('[data-action="theme"]')) button.setAttribute("aria-current", String((root.dataset.theme || "") === button.dataset.value));
    for (const button of $$('[data-action="density"]')) button.setAttribute("aria-current", String(root.dataset.density === "compact"));
    for (const button of $$('[data-action="single-keys"]')) {
      button.setAttribute("aria-pressed", String(singleKeys()));
      button.textContent = `Single-key shortcuts are ${singleKeys() ? "on" : "off"}`;
    }
  }

  async function copyFrom(button) {
    const text = button.dataset.copy ?? $(button.dataset.copyFrom)?.textContent ?? "";
    try {
      await navigator.clipboard.writeText(text);
    } catch { // not a secure context
      const area = make("textarea", { value: text, className: "sr" });
      (button.closest("dialog") || document.body).append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    const before = button.firstElementChild;
    before?.replaceWith(icon("check"));
    setTimeout(() => before && button.firstElementChild?.replaceWith(before), 1500);
    toast({ level: "success", text: "Copied." });
  }

  // --- menus stand at their button

  document.addEventListener("beforetoggle", (event) => {
    const menu = event.target;
    if (event.newState !== "open" || !menu.matches(".menu[popover]")) return;
    const box = $(`[popovertarget="${CSS.escape(menu.id)}"]`)?.getBoundingClientRect();
    if (!box) return;
    const up = box.bottom > innerHeight * 0.7, right = box.left > innerWidth / 2;
    menu.style.setProperty(up ? "bottom" : "top", `${Math.round(up ? innerHeight - box.top + 4 : box.bottom + 4)}px`);
    menu.style.setProperty(right ? "right" : "left", `${Math.max(8, Math.round(right ? innerWidth - box.right : box.left))}px`);
    for (const side of [up ? "top" : "bottom", right ? "left" : "right"]) menu.style.setProperty(side, "auto");
    addEventListener("scroll", () => menu.matches(":popover-open") && menu.hidePopover(), { once: true, passive: true });
  }, true);

  // --- times

  const skew = new Date(root.dataset.now || Date.now()) - Date.now();
  const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const zone = root.dataset.tz || undefined;
  const exact = new Intl.DateTimeFormat("en-US", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZone: zone });

  // 26 Nov 2026, 21:33:43: as the server writes it, in the reader's zone.
  function clock(moment) {
    const part = Object.fromEntries(exact.formatToParts(moment).map(({ type, value }) => [type, value]));
    return `${part.day} ${part.month} ${part.year}, ${part.hour}:${part.minute}:${part.second}`;
  }

  function distance(moment) {
    const seconds = (Date.now() + skew - moment) / 1000;
    const size = Math.abs(seconds);
    if (size < 1) return "now";
    const [length, unit] = UNITS.find(([length]) => size >= length);
    const text = `${Math.floor(size / length)}\u00a0${unit}`;
    return seconds > 0 ? `${text}\u00a0ago` : `in\u00a0${text}`;
  }

  function tellTimes() {
    if (document.hidden) return;
    for (const element of $$("time[data-ago]")) {
      const text = distance(Date.parse(element.dateTime));
      if (element.textContent !== text) element.textContent = text;
    }
    for (const element of $$("time[data-clock]:not([data-told])")) {
      element.textContent = clock(Date.parse(element.dateTime));
      element.dataset.told = "";
    }
  }
  setInterval(tellTimes, 1000);
  document.addEventListener("visibilitychange", tellTimes);

  // --- keyboard

  let wentAt = 0;
  const typing = (element) => element.closest?.('input:not([type="checkbox"], [type="radio"]), textarea, select, [contenteditable="true"]');

  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") return event.preventDefault(), openPalette();
    if (event.key === "Escape" && root.dataset.nav) return closeNav();
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || $("dialog[open]:modal") || !singleKeys()) return;
    if (performance.now() - wentAt < 1200 && /^[a-z]$/.test(event.key)) {
      wentAt = 0;
      const link = $(`#nav [data-key="${event.key}"]`);
      if (link) return event.preventDefault(), link.click();
    }
    const act = KEYS[event.key];
    if (act && act(event) !== false) event.preventDefault();
  });

  const KEYS = {
    g: () => (wentAt = performance.now()),
    "/": () => ($("[data-search], main input[type=search]") || { focus: openPalette }).focus(),
    "?": () => $("#keys").showModal(),
    ".": () => ACTIONS["live-pause"](),
    j: () => step(1),
    k: () => step(-1),
  };

  function step(by) {
    const rows = $$("main .tbl tbody tr").filter((row) => $("a, button", row));
    if (!rows.length) return false;
    const here = rows.indexOf(document.activeElement?.closest("tr"));
    const row = rows[Math.min(rows.length - 1, Math.max(0, here < 0 ? 0 : here + by))];
    $("a, button", row).focus();
    row.scrollIntoView({ block: "nearest" });
  }

  // --- the palette

  function destinations() {
    const links = $$("#nav .links a").map((link) => ({ name: link.textContent.trim(), hint: link.dataset.key ? `g ${link.dataset.key}` : "", picture: $("use", link), act: () => link.click() }));
    const accounts = $$("#account-menu a:not([aria-current])").map((link) => ({ name: `Switch to ${link.dataset.name}`, hint: "", act: () => link.click() }));
    const here = $$("main .page-head .actions a.btn, main .tabs a").map((link) => ({ name: link.innerText.trim(), hint: "on this page", act: () => link.click() }));
    const acts = [["Light theme", () => choose("theme", "light")], ["Dark theme", () => choose("theme", "dark")], ["Theme of the system", () => choose("theme", "")], ["Compact rows", ACTIONS.density], ["Pause or resume live updates", ACTIONS["live-pause"]], ["Keyboard shortcuts", ACTIONS.keys]];
    return [...links, ...here, ...accounts, ...acts.map(([name, act]) => ({ name, hint: "", act }))];
  }

  function openPalette() {
    const dialog = $("#palette"), input = $("#palette-input"), list = $("#palette-list");
    if (dialog.open) return;
    const all = destinations();
    let shown = [], at = 0;
    const draw = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      shown = all.filter((one) => words.every((word) => one.name.toLowerCase().includes(word)));
      at = Math.max(0, Math.min(at, shown.length - 1));
      list.replaceChildren(...shown.map((one, i) => {
        const item = make("li", { id: `palette-${i}`, role: "option" }, icon(one.picture?.getAttribute("href").split("#")[1] || "arrow-right"), one.name, make("small", { textContent: one.hint }));
        item.setAttribute("aria-selected", String(i === at));
        item.addEventListener("click", () => run(one));
        return item;
      }));
      if (!shown.length) list.replaceChildren(make("p", { textContent: "Nothing by that name." }));
      input.setAttribute("aria-activedescendant", shown.length ? `palette-${at}` : "");
      list.children[at]?.scrollIntoView({ block: "nearest" });
    };
    const run = (one) => (dialog.close(), one?.act());
    input.value = "";
    input.oninput = () => ((at = 0), draw());
    input.onkeydown = (event) => {
      const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (by) event.preventDefault(), (at = (at + by + shown.length) % (shown.length || 1)), draw();
      if (event.key === "Enter") event.preventDefault(), run(shown[at]);
    };
    draw();
    dialog.showModal();
    input.focus();
  }

  // --- logs, graphs and charts load when a page has one

  const KINDS = ["usage", "log", "graph", "chart"]; // usage first: it hears what the log hears
  const mounts = new Map();
  const loading = {};
  const ntd = (window.ntd = { modules: {}, icon, toast, make, load, reduced: () => matchMedia("(prefers-reduced-motion: reduce)").matches });

  function load(address) {
    return (loading[address] ||= new Promise((done, failed) => {
      document.head.append(make("script", { src: address, onload: done, onerror: failed }));
    }));
  }
  ntd.loadChart = () => {
    if (!loading.css) loading.css = document.head.append(make("link", { rel: "stylesheet", href: script.uplotCss })) ?? true;
    return load(script.uplot);
  };

  async function mountAll() {
    for (const [element, mounted] of mounts) {
      if (element.isConnected) mounted.update?.();
      else mounted.destroy?.(), mounts.delete(element);
    }
    for (const kind of KINDS) {
      for (const element of $$(`[data-${kind}]`)) {
        if (mounts.has(element)) continue;
        mounts.set(element, {});
        element.setAttribute("hx-morph-skip", "");
        try {
          await load(script[`module${kind[0].toUpperCase()}${kind.slice(1)}`]);
          mounts.set(element, (await ntd.modules[kind](element)) || {});
        } catch (error) {
          console.error(error);
          element.append(make("p", { className: "empty", textContent: "This part could not be shown. Reload the page to try again." }));
        }
      }
    }
  }

  // --- after every change of the page

  function labelCells() {
    for (const table of $$(".tbl.cards")) {
      const labels = $$("thead th", table).map((cell) => ($(".sr", cell) ? "" : cell.innerText.trim()));
      for (const row of $$("tbody tr:not([data-told])", table)) {
        row.dataset.told = "";
        [...row.children].forEach((cell, i) => labels[i] && !cell.dataset.label && (cell.dataset.label = labels[i]));
      }
    }
  }

  function markPlace() {
    const links = $$("#nav .links a"), here = location.pathname;
    const places = links.flatMap((link) => [link.pathname, ...(link.dataset.elsewhere?.split(" ") ?? [])].map((path) => ({ link, path })));
    const fits = places.filter(({ path }) => here === path || (path.split("/").length > 4 && here.startsWith(path)));
    const best = fits.sort((a, b) => b.path.length - a.path.length)[0]?.link;
    for (const link of links) link === best ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }

  function settle() {
    adoptMessages();
    labelCells();
    markPlace();
    tellTimes();
    mountAll();
  }

  // Where tabs are wider than the page, the one that is shown may lie beyond its edge.
  function showTab() {
    const tab = $("main .tabs [aria-current]");
    if (tab) tab.parentElement.scrollLeft = tab.offsetLeft - tab.parentElement.offsetLeft - (tab.parentElement.clientWidth - tab.offsetWidth) / 2;
  }

  // Where a form was refused: the first field that is wrong, or the first choice of a list nothing was chosen in.
  function toFirstFault(box) {
    const wrong = $('[aria-invalid="true"], .field:has(.errors)', box);
    (wrong?.matches(".field") ? $("input, select, textarea", wrong) : wrong)?.focus();
  }

  document.addEventListener("htmx:after:swap", (event) => {
    const { ctx } = event.detail;
    if (ctx.sourceElement?._htmx?.boosted || ctx.sourceElement?.closest?.("#nav")) {
      closeNav();
      scrollTo(0, 0);
      showTab();
      $("main h1")?.focus({ preventScroll: true });
    }
    const drawer = $("#drawer");
    if (ctx.target === drawer && drawer.childElementCount && !drawer.open) drawer.showModal();
    if (ctx.request?.method === "POST" && ctx.target?.isConnected) toFirstFault(ctx.target);
    settle();
  });
  $("#drawer")?.addEventListener("close", (event) => event.target.replaceChildren());

  const go = $("[data-keys-go]");
  for (const link of $$("#nav [data-key]")) go?.append(make("dt", { textContent: link.textContent.trim() }), make("dd", {}, make("kbd", { textContent: "g" }), " ", make("kbd", { textContent: link.dataset.key })));
  showChoices();
  settle();
  showTab();
  toFirstFault(document);
})();
