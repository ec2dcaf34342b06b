/* The changed input: what the form holds goes into the address, or into a store where it is too large for one. */
(function () {
  "use strict";
  const app = window.explainerApp;
  const LONGEST = 1800; // letters of an address that every browser and proxy takes
  let base = {}, held = "", kept = null;

  function keep(data) {
    if (data === null && kept === null) return;
    kept = data;
    app.set("edit", { data: data });
  }

  /* Take what the form of a row says; a form that stands for another row than the address is on its way out. */
  function edit(form, change) {
    if (!form || app.rowOf(app.current()) !== form.model + " " + form.row) return;
    const text = change === null ? "" : JSON.stringify(change);
    const mine = kept && kept.model === form.model && kept.row === form.row;
    if (encodeURIComponent(text).length > LONGEST) {
      const data = Object.assign({ model: form.model, row: form.row }, change);
      held = "";
      if (JSON.stringify(data) !== JSON.stringify(kept)) keep(data);
    } else {
      held = text;
      if (mine) keep(null);
    }
    app.go({ edit: held });
  }

  /* The form is made anew from the address. */
  function anew() {
    if (document.getElementById("change")) app.set("reset", { data: Date.now() });
  }

  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-undo]")) return;
    held = "";
    keep(null);
    app.go({ edit: "" });
    anew();
  });

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
      edit(base, { image: canvas.toDataURL("image/png") });
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

  /* ---- numbers: the arrows step them; one that is none, or lies outside the data, says so where it stands ---- */
  document.addEventListener("keydown", (event) => {
    const field = event.target.closest("[data-by]"), up = event.key === "ArrowUp";
    if (!field || !(up || event.key === "ArrowDown") || !Number.isFinite(Number(field.value))) return;
    event.preventDefault();
    const by = Number(field.dataset.by), digits = Math.max(0, -Math.floor(Math.log10(by)));
    const value = Number(field.value) + (up ? by : -by);
    app.set(app.parsed(field.id), { value: String(Number(value.toFixed(Math.max(digits, (field.value.split(".")[1] || "").length)))) });
  });

  const said = (value) => (value === undefined || value === null ? "" : String(value).trim());
  const short = (number) => Number(number.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 });
  function fault(value, range) {
    if (!range || value === "") return "";
    const number = Number(value);
    if (!Number.isFinite(number)) return "not a number";
    return number < range[0] || number > range[1] ? "outside " + short(range[0]) + " to " + short(range[1]) : "";
  }

  Object.assign(window.dash_clientside.explainer, {
    /* A form came, or the address changed: where they speak of one row and differ, the form is made anew. */
    form: (data, search) => {
      if (data && data !== base) { base = data; held = data.edit; }
      const params = app.current();
      if (data && app.rowOf(params) === data.model + " " + data.row && (params.get("edit") || "") !== held) {
        held = params.get("edit") || "";
        anew();
      }
      return app.none();
    },

    cells: (values, ids, form) => {
      const faults = [], marks = [], changed = {};
      ids.forEach((id, i) => {
        const value = said(values[i]), moved = value !== said(((form || {}).values || {})[id.column]);
        if (moved) changed[id.column] = values[i] === undefined ? null : values[i];
        const wrong = moved ? fault(value, ((form || {}).ranges || {})[id.column]) : "";
        faults.push(wrong || false);
        marks.push(moved ? (wrong.startsWith("outside") ? "field-changed field-outside" : "field-changed") : "");
      });
      if (ids.length) edit(form, Object.keys(changed).length ? { values: changed } : null);
      return [faults, marks];
    },

    text: (value, form) => {
      if (typeof value === "string" && form) edit(form, value === form.text ? null : { text: value });
      return app.none();
    },

    /* A file: one too large to be sent is named, so that it can be told. */
    file: (contents, name, form) => {
      if (!contents || !form) return app.none();
      const bytes = Math.floor((contents.length - contents.indexOf(",") - 1) * 3 / 4);
      const kind = window.dash_clientside.callback_context.triggered_id === "edit-csv" ? "csv" : "image";
      edit(form, bytes > form.largest ? { large: { name: name, bytes: bytes } } : { [kind]: contents });
      return app.none();
    },

    stretch: (channel, span, scale, form) => {
      const untouched = scale === 1 && kept && kept.csv;
      if (span && form && !untouched) edit(form, scale === 1 ? null : { channel: channel, first: span[0], last: span[1], scale: scale });
      return app.none();
    },
  });
})();
