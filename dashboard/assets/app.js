/* What must happen in the browser: the address as state, keys, drawing, and the small clientside callbacks. */
(function () {
  "use strict";
  const none = () => window.dash_clientside.no_update;
  const set = (id, props) => window.dash_clientside.set_props(id, props);
  /* What in an address belongs to one model. */
  const OWN = ["row", "a", "b", "layer_a", "layer_b", "target", "cell", "rows", "order", "layer", "unit", "other", "output", "state", "check"];
  let defaults = {}, shown = null;

  function current() {
    const params = new URLSearchParams(window.location.search);
    for (const key of ["model", "row", "a", "b"]) {
      if (!params.has(key) && defaults[key] !== undefined && defaults[key] !== null) params.set(key, String(defaults[key]));
    }
    return params;
  }

  /* Change some fields of the address, and perhaps the page; a change that changes nothing makes no history entry. */
  function go(changes, page) {
    const before = current();
    const params = new URLSearchParams(before);
    if (changes.model !== undefined && changes.model !== before.get("model")) {
      for (const key of OWN) params.delete(key);
    }
    for (const [key, value] of Object.entries(changes)) {
      if (value === null || value === "") params.delete(key);
      else params.set(key, String(value));
    }
    const moved = page && page !== window.location.pathname;
    if (!moved && params.toString() === before.toString()) return;
    const search = params.toString() ? "?" + params.toString() : "";
    set("url", moved ? { pathname: page, search: search } : { search: search });
  }

  /* Another method looks at layers of its own choice again. */
  function choose(side, method) {
    if (method !== current().get(side)) go({ [side]: method, ["layer_" + side]: "" });
  }

  function order() {
    const api = gridApi();
    if (!api) return defaults.rows || [];
    const rows = [];
    api.forEachNodeAfterFilterAndSort((node) => rows.push(node.data.row));
    return rows;
  }

  function gridApi() {
    if (!document.getElementById("grid") || !window.dash_ag_grid) return null;
    try {
      return window.dash_ag_grid.getApi("grid");
    } catch (error) {
      return null; // the grid is not ready yet
    }
  }

  function step(by) {
    const rows = order();
    if (!rows.length) return;
    const at = rows.indexOf(Number(current().get("row")));
    const to = at < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, at + by));
    go({ row: rows[to] });
  }

  function copyLink(button) {
    const text = window.location.origin + window.location.pathname + "?" + current().toString();
    const done = () => {
      const label = button.querySelector("[data-label]") || button;
      const old = label.textContent;
      label.textContent = "copied";
      window.setTimeout(() => { label.textContent = old; }, 1200);
    };
    const field = () => {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.appendChild(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      done();
    };
    if (navigator.clipboard && window.isSecureContext) navigator.clipboard.writeText(text).then(done, field);
    else field();
  }

  /* Questions that will be asked again soon, by place; a press (stop, again) takes their turn. */
  const timers = {};
  const placeOf = (id) => String(id.side || id.name || id).replace(/-press$/, "");
  const hush = (id) => window.clearTimeout(timers[placeOf(id)]);

  const parsed = (id) => { try { return JSON.parse(id); } catch (error) { return id; } };

  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-go],[data-step],[data-copy],[data-press]");
    if (!target) return;
    if (target.dataset.go !== undefined) go(JSON.parse(target.dataset.go), target.dataset.page);
    else if (target.dataset.step !== undefined) step(Number(target.dataset.step));
    else if (target.dataset.copy !== undefined) copyLink(target);
    /* A button made inside a callback's answer: it writes into a store that is always there. */
    else {
      const id = parsed(target.dataset.press);
      hush(id);
      set(id, { data: { value: target.dataset.value || "", at: Date.now() } });
    }
  });

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable=true], [role=listbox], [role=combobox]");
    if (event.key === "Escape" && typing) typing.blur();
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "/") {
      const search = document.getElementById("search");
      if (search) { event.preventDefault(); search.focus(); }
    }
  });

  /* ---- the changed input: one store; null while nothing differs from the row ---- */
  let base = {}, edited = null;
  function edit(change) {
    if (change === null && edited === null) return;
    edited = change === null ? null : Object.assign({ model: base.model, row: base.row }, change);
    set("edit", { data: edited });
  }

  /* ---- drawing on the picture ---- */
  function paintable(canvas) {
    const width = Number(canvas.dataset.width), height = Number(canvas.dataset.height);
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const image = new Image();
    image.onload = () => context.drawImage(image, 0, 0, width, height);
    image.src = canvas.dataset.picture;
    let down = false, last = null;
    const where = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) * width / box.width, (event.clientY - box.top) * height / box.height];
    };
    const stroke = (to) => {
      context.strokeStyle = document.querySelector("[data-brush=erase][aria-pressed=true]") ? "#000" : "#fff";
      context.lineWidth = Math.max(1.5, width / 14);
      context.lineCap = "round";
      context.beginPath();
      context.moveTo(...(last || to));
      context.lineTo(to[0] + 0.01, to[1]);
      context.stroke();
      last = to;
    };
    canvas.addEventListener("pointerdown", (event) => { down = true; last = null; canvas.setPointerCapture(event.pointerId); stroke(where(event)); });
    canvas.addEventListener("pointermove", (event) => { if (down) stroke(where(event)); });
    const up = () => {
      if (!down) return;
      down = false;
      edit({ image: canvas.toDataURL("image/png") });
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.explainerClear = () => { context.fillStyle = "#000"; context.fillRect(0, 0, width, height); down = true; up(); };
  }

  const seen = new WeakSet();
  new MutationObserver(() => {
    for (const box of document.querySelectorAll("[data-canvas]")) {
      if (seen.has(box)) continue;
      seen.add(box);
      const canvas = document.createElement("canvas");
      canvas.className = "draw";
      canvas.setAttribute("aria-label", "Draw on the picture");
      Object.assign(canvas.dataset, { width: box.dataset.width, height: box.dataset.height, picture: box.dataset.picture });
      box.appendChild(canvas);
      paintable(canvas);
    }
  }).observe(document.documentElement, { childList: true, subtree: true });
  document.addEventListener("click", (event) => {
    const brush = event.target.closest("[data-brush]");
    if (brush) for (const one of document.querySelectorAll("[data-brush]")) one.setAttribute("aria-pressed", String(one === brush));
    if (!event.target.closest("[data-clear]")) return;
    const canvas = document.querySelector("canvas.draw");
    if (canvas) canvas.explainerClear();
  });

  /* ---- a method in a list: its name, what it is on this model, and why ---- */
  window.dashMantineFunctions = Object.assign({}, window.dashMantineFunctions, {
    method: ({ option }) => {
      const part = (kind, name, ...inside) => window.React.createElement(kind, { className: name }, ...inside);
      const level = part("span", "badge badge-" + option.status, part("span", "badge-sign", option.sign), option.level);
      return part("div", "option", part("div", "option-head", part("span", "option-name", option.label), level), part("div", "option-why", option.reason));
    },
  });

  /* ---- clientside callbacks ---- */
  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    explainer: {
      browser: (data) => data || (window.crypto && crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2) + Date.now()),

      route: (path, search, old) => {
        const model = new URLSearchParams(search || "").get("model") || "";
        const page = path === "/" || !path ? "/inspect" : path.replace(/\/+$/, "");
        const profile = page === "/report" ? new URLSearchParams(search || "").get("profile") || "" : "";
        if (old && old.page === page && old.profile === profile && (old.model === model || (!model && old.model === defaults.model))) return none();
        return { page: page, model: model, profile: profile };
      },

      defaults: (data) => { defaults = data || {}; return none(); },

      links: (search, data, ids) => ids.map((id) => id.page + (search || "")),

      active: (path, ids) => ids.map((id) => id.page === (path === "/" || !path ? "/inspect" : path)),

      model: (value) => { if (value) go({ model: value }); return none(); },

      method: (value, id) => { if (value) choose(id.side, value); return none(); },

      first: (value) => { if (value) choose("a", value); return none(); },

      layer: (value, id) => { if (value) go({ ["layer_" + id.side]: value === "(default)" ? "" : value }); return none(); },

      /* A picture of the whole model is pressed: its place says which head it is. */
      head: (click, view) => {
        if (view === "model" && click && click.points.length) {
          set("layer", { value: String(Math.round(click.points[0].y)) });
          set("head", { value: String(Math.round(click.points[0].x)) });
          set("attention-view", { value: "head" });
        }
        return none();
      },

      unit: (layer, unit) => {
        const by = window.dash_clientside.callback_context.triggered_id;
        if (by === "layer-pick" && layer && layer !== current().get("layer")) go({ layer: layer, unit: "" });
        else if (by === "unit-pick" && layer && Number.isInteger(unit)) go({ layer: layer, unit: unit });
        return none();
      },

      /* The two inputs of a patching; the first is the row that every page speaks of. */
      pair: (row, other) => {
        const by = window.dash_clientside.callback_context.triggered_id;
        if (by === "inside-row" && Number.isInteger(row) && String(row) !== current().get("row")) go({ row: row, other: "" });
        else if (by === "inside-other" && Number.isInteger(other)) go({ other: other });
        return none();
      },

      order: (value) => { if (value) go({ order: value === "wrong" && !current().has("order") ? "" : value }); return none(); },

      check: (value) => { go({ check: value || "" }); return none(); },
      profile: (value) => { if (value) go({ profile: value }); return none(); },

      row: (cell) => { if (cell && cell.rowId !== undefined) go({ row: cell.rowId }); return none(); },

      selected: (search, data) => {
        const row = current().get("row"), wanted = current().get("model") + " " + row;
        /* The table turns to the row when the row changes, not when the same rows come in another order. */
        if (wanted !== shown) window.setTimeout(() => {
          const api = gridApi();
          const node = api && api.getRowNode(String(row));
          if (!node) return;
          shown = wanted;
          const size = api.paginationGetPageSize ? api.paginationGetPageSize() : 0;
          if (size && node.rowIndex !== null) api.paginationGoToPage(Math.floor(node.rowIndex / size));
          api.ensureNodeVisible(node);
        }, 60);
        return row === null ? [] : { ids: [String(row)] };
      },

      quick: (text, options) => Object.assign({}, options, { quickFilterText: text || "" }),

      base: (data) => { base = data || {}; edit(null); return none(); },

      cells: (values, ids) => {
        const held = base.values || {}, changed = {};
        ids.forEach((id, i) => {
          const value = values[i] === undefined ? null : values[i];
          const before = held[id.column] === undefined ? null : held[id.column];
          if (String(value === null ? "" : value) !== String(before === null ? "" : before)) changed[id.column] = value;
        });
        edit(Object.keys(changed).length ? { values: changed } : null);
        return none();
      },

      text: (value) => {
        if (typeof value === "string") edit(base.text === undefined || value === base.text ? null : { text: value });
        return none();
      },

      upload: (contents) => { if (contents) edit({ image: contents }); return none(); },

      csv: (contents) => { if (contents) edit({ csv: contents }); return none(); },

      stretch: (channel, span, scale) => {
        if (span) edit(scale === 1 ? null : { channel: channel, first: span[0], last: span[1], scale: scale });
        return none();
      },

      /* Ask again a moment after an answer was shown, if its place is still there. */
      poll: (value, id) => {
        hush(id);
        if (value) {
          timers[placeOf(id)] = window.setTimeout(() => {
            const place = "name" in id ? { name: id.name, type: "slot-body" } : { side: id.side, type: "panel-body" };
            if (id.name === "page" || document.getElementById(JSON.stringify(place))) {
              set(Object.assign({}, id, { type: id.type.replace("poll", "tick") }), { data: Date.now() });
            }
          }, 350);
        }
        return none();
      },

      burger: (opened, navbar) => Object.assign({}, navbar, { collapsed: { mobile: !opened } }),

      close: () => false,

      opacity: (value, figure) => {
        if (!figure || !figure.data) return none();
        const top = figure.data.length - 1;
        const data = figure.data.map((trace, i) => (i === top && trace.type === "heatmap" ? Object.assign({}, trace, { opacity: value / 100 }) : trace));
        return Object.assign({}, figure, { data: data });
      },
    },
  });
})();
