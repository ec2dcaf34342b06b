/* What must happen in the browser: the address as state, keys, drawing, and the small clientside callbacks. */
(function () {
  "use strict";
  const none = () => window.dash_clientside.no_update;
  const set = (id, props) => window.dash_clientside.set_props(id, props);
  /* What the other files use of this one; the table puts its own order here. */
  const app = window.explainerApp = { order: () => null };
  /* What in an address belongs to one model. */
  const OWN = ["row", "a", "b", "layer_a", "layer_b", "target", "cell", "rows", "order", "layer", "unit", "other", "output", "state", "check", "find", "edit",
    "favourable", "budget", "column", "curve"];
  let defaults = {};
  /* The changes of rows that were left, by model and row: they are there again when the row is opened again. */
  const left = {};

  function current() {
    const params = new URLSearchParams(window.location.search);
    for (const key of ["model", "row", "a", "b"]) {
      if (!params.has(key) && defaults[key] !== undefined && defaults[key] !== null) params.set(key, String(defaults[key]));
    }
    return params;
  }

  const rowOf = (params) => params.get("model") + " " + params.get("row");

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
    if (rowOf(params) !== rowOf(before)) {
      if (before.get("edit")) left[rowOf(before)] = before.get("edit");
      params.delete("edit");
      if (left[rowOf(params)]) params.set("edit", left[rowOf(params)]);
    }
    if (!params.has("edit")) delete left[rowOf(params)];
    const moved = page && page !== window.location.pathname;
    if (!moved && params.toString() === before.toString()) return;
    const search = params.toString() ? "?" + params.toString() : "";
    set("url", moved ? { pathname: page, search: search } : { search: search });
  }

  /* Another method looks at layers of its own choice again. */
  function choose(side, method) {
    if (method !== current().get(side)) go({ [side]: method, ["layer_" + side]: "", budget: "" });
  }

  function step(by) {
    const rows = app.order() || defaults.rows || [];
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

  /* ---- a method in a list: its name, what it is on this model, and why ---- */
  window.dashMantineFunctions = Object.assign({}, window.dashMantineFunctions, {
    method: ({ option }) => {
      const part = (kind, name, ...inside) => window.React.createElement(kind, { className: name }, ...inside);
      const level = part("span", "badge badge-" + option.status, part("span", "badge-sign", option.sign), option.level);
      return part("div", "option", part("div", "option-head", part("span", "option-name", option.label), level), part("div", "option-why", option.reason));
    },
  });

  /* ---- clientside callbacks ---- */
  Object.assign(app, { current, rowOf, go, set, none, parsed });
  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    explainer: {
      /* The page that is shown, and the token of this tab, which its session keeps over a reload. */
      route: (path, search, old) => {
        const token = window.sessionStorage.getItem("explainer-tab") || Math.random().toString(36).slice(2) + Date.now().toString(36);
        window.sessionStorage.setItem("explainer-tab", token);
        const model = new URLSearchParams(search || "").get("model") || "";
        const page = path === "/" || !path ? "/inspect" : path.replace(/\/+$/, "");
        const profile = page === "/report" ? new URLSearchParams(search || "").get("profile") || "" : "";
        if (old && old.page === page && old.profile === profile && (old.model === model || (!model && old.model === defaults.model))) return [none(), token];
        return [{ page: page, model: model, profile: profile }, token];
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

      check: (value) => { go({ check: value || "" }); return none(); },
      profile: (value) => { if (value) go({ profile: value }); return none(); },
      /* The first choice is the one an address without the field means. */
      choice: (value, choices, id) => {
        if (value) go({ [id.replace("dependence-", "")]: value === (choices[0].value || choices[0]) ? "" : value });
        return none();
      },
      favourable: (value) => { go({ favourable: value || "" }); return none(); },

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
