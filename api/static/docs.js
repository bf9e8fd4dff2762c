// Shows the OpenAPI document of this program. Text goes in by textContent only; nothing else is loaded.

/** @param {string} tag @param {string} [text] @param {...Node} children */
function make(tag, text = "", ...children) {
  const element = document.createElement(tag);
  element.textContent = text;
  element.append(...children);
  return element;
}

/** A schema as short as it can be said. */
function shown(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(shown).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.type === "array") return `${shown(schema.items) || "any"}[]`;
  if (schema.type === "object" && schema.properties) return `{ ${Object.keys(schema.properties).join(", ")} }`;
  const range = [schema.minimum ?? schema.exclusiveMinimum, schema.maximum].filter((edge) => edge !== undefined);
  return (schema.type ?? "any") + (range.length === 2 ? ` ${range[0]} to ${range[1]}` : "");
}

/** One route, closed. */
function route(path, method, facts) {
  const list = make("dl");
  for (const given of facts.parameters ?? []) {
    list.append(make("dt", `${given.name} (${given.in})`), make("dd", shown(given.schema)));
  }
  for (const [kind, body] of Object.entries(facts.requestBody?.content ?? {})) {
    list.append(make("dt", `body, ${kind}`), make("dd", shown(body.schema)));
  }
  for (const [status, answer] of Object.entries(facts.responses ?? {})) {
    const kinds = Object.entries(answer.content ?? {}).map(([kind, body]) => `${kind} ${shown(body.schema)}`);
    list.append(make("dt", status), make("dd", [answer.description, ...kinds].join(" · ")));
  }
  const title = make("summary", "", make("b", method.toUpperCase()), make("code", path));
  return make("details", "", title, make("p", facts.description ?? facts.summary ?? ""), list);
}

/** A type and its fields, closed. */
function type(name, schema) {
  const list = make("dl");
  for (const [field, inner] of Object.entries(schema.properties ?? {})) {
    const needed = schema.required?.includes(field) ? "" : " (optional)";
    list.append(make("dt", field + needed), make("dd", shown(inner)));
  }
  return make("details", "", make("summary", name), make("p", schema.description ?? ""), list);
}

async function show() {
  const place = document.getElementById("routes");
  document.getElementById("origin").textContent = location.origin;
  const answer = await fetch("openapi.json");
  if (!answer.ok) {
    place.textContent = (await answer.json()).message;
    return;
  }
  const { paths, components } = await answer.json();
  place.replaceChildren(make("h2", "Routes"));
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, facts] of Object.entries(methods)) place.append(route(path, method, facts));
  }
  place.append(make("h2", "Types"));
  for (const [name, schema] of Object.entries(components?.schemas ?? {})) place.append(type(name, schema));
}

show().catch(() => {
  document.getElementById("routes").textContent = "The document can't be read. Is Darkroom still running?";
});
