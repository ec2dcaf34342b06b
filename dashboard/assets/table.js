/* The table of predictions in the browser: its rows, what is shown of them, and how a row is opened. */
(function () {
  "use strict";
  const app = window.explainerApp;
  const made = new WeakMap(), watched = new WeakSet();
  let total = 0, turned = null;

  function api() {
    if (!document.getElementById("grid") || !window.dash_ag_grid) return null;
    try {
      return window.dash_ag_grid.getApi("grid");
    } catch (error) {
      return null; // the grid is not ready yet
    }
  }

  app.order = () => {
    const found = api();
    if (!found) return null;
    const rows = [];
    found.forEachNodeAfterFilterAndSort((node) => rows.push(node.data.row));
    return rows;
  };

  /* The lists that came, one per column, as the records that the grid takes; made once. */
  function records(held) {
    if (!made.has(held)) {
      const name = (k) => (held.names ? held.names[k] : k);
      const features = (i) => Object.fromEntries(held.features.map((values, k) => ["f" + k, values[i]]));
      made.set(held, held.predicted.map((predicted, i) => ({
        ...features(i), row: i, true: held.true ? name(held.true[i]) : held.names ? "" : null, predicted: name(predicted), p: held.p[i],
        margin: held.margin ? held.margin[i] : null, flag: held.flags[held.flag[i]], text: held.text ? held.text[i] : "",
      })));
    }
    return made.get(held);
  }

  /* How many rows are shown, after filter and search; a heading that sorts takes over from the list of orders. */
  function watch(found) {
    if (watched.has(found)) return;
    watched.add(found);
    const count = () => {
      if (!found.isDestroyed() && document.getElementById("count")) app.set("count", { children: found.paginationGetRowCount().toLocaleString("en") + " of " + total.toLocaleString("en") });
    };
    found.addEventListener("modelUpdated", count);
    found.addEventListener("sortChanged", (event) => {
      if (event.source === "api") return;
      const sorted = found.getColumnState().some((column) => column.sort);
      app.set("order", { value: sorted ? null : app.current().get("order") || "wrong" });
    });
    count();
  }

  function open(cell) {
    app.go({ row: cell.closest("[row-id]").getAttribute("row-id") });
  }

  document.addEventListener("keydown", (event) => {
    const row = (event.key === "Enter" || event.key === " ") && event.target.closest("#grid [row-id]");
    if (row) { event.preventDefault(); open(row); }
  });

  /* Tab leaves the table, as it leaves any other field; the arrows walk inside it. */
  window.dashAgGridFunctions = Object.assign({}, window.dashAgGridFunctions, { leave: () => false });

  Object.assign(window.dash_clientside.explainer, {
    rows: (order, held) => {
      if (!order || !held) return app.none();
      total = held.predicted.length;
      window.dash_ag_grid.getApiAsync("grid").then(watch);
      const all = records(held);
      return order.map((i) => all[i]);
    },

    row: (cell) => { if (cell && cell.rowId !== undefined) app.go({ row: cell.rowId }); return app.none(); },

    order: (value) => {
      if (!value) return app.none();
      const found = api();
      if (found) found.applyColumnState({ defaultState: { sort: null } });
      app.go({ order: value === "wrong" && !app.current().has("order") ? "" : value });
      return app.none();
    },

    selected: (search, data) => {
      const params = app.current(), row = params.get("row"), wanted = app.rowOf(params);
      /* The table turns to the row when the row changes, not when the same rows come in another order. */
      if (wanted !== turned) window.setTimeout(() => {
        const found = api();
        const node = found && found.getRowNode(String(row));
        if (!node) return;
        turned = wanted;
        const size = found.paginationGetPageSize ? found.paginationGetPageSize() : 0;
        if (size && node.rowIndex !== null) found.paginationGoToPage(Math.floor(node.rowIndex / size));
        found.ensureNodeVisible(node);
      }, 60);
      return row === null ? [] : { ids: [String(row)] };
    },

    find: (text) => { app.go({ find: text || "" }); return app.none(); },

    quick: (search, options) => {
      const text = app.current().get("find") || "", field = document.getElementById("search");
      if (field && field !== document.activeElement && field.value !== text) app.set("search", { value: text });
      return (options.quickFilterText || "") === text ? app.none() : Object.assign({}, options, { quickFilterText: text });
    },
  });
})();
