"use strict";
// Tables. A row that is not in the page yet is only its values; it becomes an element when it comes into view.
// What the tables show is kept in the address: #pairs.sort=-ratio&pairs.filter=girl
const STEP = 100;
const compareTexts = new Intl.Collator("en", {numeric: true}).compare;
const wholeNumber = new Intl.NumberFormat("en", {maximumFractionDigits: 0});
const threeDecimals = new Intl.NumberFormat(
  "en", {minimumFractionDigits: 3, maximumFractionDigits: 3, roundingMode: "halfEven"});
const COMPARE = {
  "=": (a, b) => a === b, ">": (a, b) => a > b, "<": (a, b) => a < b, ">=": (a, b) => a >= b, "<=": (a, b) => a <= b,
};
const simplified = text => text.toLowerCase().replace(/[\s_"]+/g, "");

class SortableTable {
  constructor(block) {
    this.block = block;
    this.name = block.id;
    this.scroll = block.querySelector(".scroll");
    this.body = block.querySelector("tbody");
    this.headings = [...block.querySelectorAll("th")];
    this.columns = this.headings.map(heading => heading.textContent);
    this.isNumber = this.headings.map(heading => ["whole", "decimal"].includes(heading.dataset.kind));
    this.records = [...this.body.rows].map(element => ({element, values: [...element.cells].map((cell, column) => {
      const text = cell.dataset.value;
      return text === "" ? null : this.isNumber[column] && !Number.isNaN(Number(text)) ? Number(text) : text;
    })}));
    const rest = block.querySelector("script");
    for (const values of rest ? JSON.parse(rest.textContent) : []) this.records.push({values});
    this.found = this.records;
    this.state = {};
    this.headings.forEach((heading, column) => heading.addEventListener("click", () => {
      const name = this.columns[column];
      const down = this.isNumber[column] ? this.state.sort !== "-" + name : this.state.sort === name;
      this.change("sort", (down ? "-" : "") + name);
    }));
    this.input = block.querySelector("input");
    this.input?.addEventListener("input", () => this.change("filter", this.input.value.trim()));
    this.selects = [...block.querySelectorAll("select")];
    for (const select of this.selects)
      select.addEventListener("change", () => this.change(select.dataset.column, select.value));
    this.scroll.addEventListener("scroll", () => {
      if (this.scroll.scrollTop + this.scroll.clientHeight > this.scroll.scrollHeight - 400) this.extend();
    });
  }

  change(key, value) {
    this.apply({...this.state, [key]: value}, key === "filter");
    saveState();
  }

  apply(state, typing = false) {
    this.state = state;
    if (this.input && !typing) this.input.value = state.filter ?? "";
    const tests = (state.filter?.match(/(?:"[^"]*"|[^\s"])+/g) ?? []).map(term => this.test(term));
    for (const select of this.selects) {
      const column = this.columns.indexOf(select.dataset.column), wanted = state[select.dataset.column] ?? "";
      select.value = wanted;
      if (wanted) tests.push(record => record.values[column] === wanted);
    }
    this.found = this.records.filter(record => tests.every(test => test(record)));
    const down = state.sort?.startsWith("-") && !this.columns.includes(state.sort);
    const column = this.columns.indexOf(down ? state.sort.slice(1) : state.sort);
    if (column >= 0) this.found.sort((a, b) => this.compare(a.values[column], b.values[column], down ? -1 : 1));
    this.headings.forEach((heading, i) => i === column
      ? heading.setAttribute("aria-sort", down ? "descending" : "ascending") : heading.removeAttribute("aria-sort"));
    const all = this.records.length, part = this.found.length < all ? wholeNumber.format(this.found.length) + " of " : "";
    const count = this.block.querySelector(".count");
    if (count) count.textContent = `${part}${wholeNumber.format(all)} row${all === 1 ? "" : "s"}`;
    this.body.replaceChildren();
    this.scroll.scrollTop = 0;
    this.extend();
  }

  // A term of the filter: a condition such as ratio>0.5 or source="Human face", else text that the row holds.
  test(term) {
    const [, name, sign, given] = /^(.+?)(>=|<=|=|>|<)(.*)$/.exec(term) ?? [];
    const column = name ? this.columns.findIndex(other => simplified(other) === simplified(name)) : -1;
    const wanted = (column < 0 ? term : given).replaceAll('"', "").toLowerCase();
    if (wanted === "") return () => true;
    if (column < 0) return record => {
      record.text ??= record.values.map(value => value ?? "").join("\n").toLowerCase();
      return record.text.includes(wanted);
    };
    return record => {
      const value = record.values[column];
      if (typeof value === "number") return COMPARE[sign](value, Number(wanted));
      return sign === "=" && value !== null && value.toLowerCase() === wanted;
    };
  }

  // Numbers by value, texts by name; empty cells stay last.
  compare(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "number" && typeof b === "number" ? a - b : compareTexts(String(a), String(b)));
  }

  extend() {
    const first = this.body.rows.length;
    this.body.append(...this.found.slice(first, first + STEP).map(record => record.element ??= this.row(record.values)));
  }

  row(values) {
    const row = document.createElement("tr");
    values.forEach((value, column) => {
      const cell = row.insertCell(), kind = this.headings[column].dataset.kind;
      cell.dataset.value = value ?? "";
      if (typeof value === "number") {
        cell.className = "number";
        cell.title = String(value);
        cell.textContent = (kind === "whole" ? wholeNumber : threeDecimals).format(value);
      } else {
        if (kind === "long") cell.className = "long";
        cell.textContent = value ?? "–";
      }
    });
    return row;
  }
}

const tables = [...document.querySelectorAll(".block")].map(block => new SortableTable(block));

function saveState() {
  const state = new URLSearchParams();
  for (const table of tables)
    for (const [key, value] of Object.entries(table.state)) if (value) state.set(`${table.name}.${key}`, value);
  try { history.replaceState(null, "", "#" + state); } catch { /* a page without an address of its own */ }
}

function loadState() {
  const text = location.hash.slice(1);
  if (!text.includes("=")) return;
  const states = new Map();
  for (const [key, value] of new URLSearchParams(text)) {
    const dot = key.indexOf("."), name = key.slice(0, dot);
    states.set(name, {...states.get(name), [key.slice(dot + 1)]: value});
  }
  for (const table of tables) table.apply(states.get(table.name) ?? {});
  tables.find(table => states.has(table.name))?.block.scrollIntoView();
}

addEventListener("hashchange", loadState);
loadState();

for (const image of document.querySelectorAll(".picture img"))
  image.addEventListener("click", () => image.classList.toggle("full"));

// What lies under the pointer or the finger, in words below the drawing.
for (const drawing of document.querySelectorAll(".drawing")) {
  const tip = drawing.parentElement.querySelector(".tip");
  for (const kind of ["pointerover", "click"]) drawing.addEventListener(kind, event => {
    const title = event.target.querySelector?.(":scope > title");
    if (title) tip.textContent = title.textContent;
  });
}
