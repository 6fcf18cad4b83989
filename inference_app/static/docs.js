// Draws the server's own OpenAPI document: every operation, its shapes, and a way to call it.
const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

function shape(schema, all, depth = 0) {
  if (!schema || depth > 6) return "…";
  if (schema.$ref) return shape(all[schema.$ref.split("/").pop()], all, depth);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.map((choice) => shape(choice, all, depth)).join(" | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.type === "array") return `[${shape(schema.items, all, depth)}, …]`;
  if (schema.properties) {
    const pad = "  ".repeat(depth + 1);
    const required = new Set(schema.required ?? []);
    const lines = Object.entries(schema.properties).map(
      ([name, value]) => `${pad}${name}${required.has(name) ? "" : "?"}: ${shape(value, all, depth + 1)}`,
    );
    return `{\n${lines.join("\n")}\n${"  ".repeat(depth)}}`;
  }
  return schema.type ?? "anything";
}

function resolved(schema, all) {
  return schema?.$ref ? all[schema.$ref.split("/").pop()] : schema;
}

function caller(path, method, operation, all) {
  const parameters = (operation.parameters ?? []).filter((parameter) => parameter.in === "path");
  const fields = parameters.map((parameter) => element("input", { placeholder: parameter.name }));
  const schema = operation.requestBody?.content["application/json"]?.schema;
  const example = resolved(schema, all)?.examples?.[0];
  const body = schema && element("textarea", { rows: 6, value: JSON.stringify(example ?? {}) });
  const output = element("pre", { hidden: true });
  const button = element("button", { type: "button" }, "Send");
  button.onclick = async () => {
    let place = 0;
    const url = path.replace(/\{[^}]+\}/g, () => encodeURIComponent(fields[place++].value)).slice(1);
    const headers = body ? { "content-type": "application/json" } : {};
    output.hidden = false;
    try {
      const answer = await fetch(url, { method, headers, body: body?.value });
      output.textContent = `${answer.status} ${answer.statusText}\n\n${await answer.text()}`;
    } catch (error) {
      output.textContent = `no answer: ${error.message}`;
    }
  };
  return element("div", {}, ...fields, ...(body ? [body] : []), button, output);
}

function drawn(path, method, operation, all) {
  const title = element("summary", {}, element("span", { className: "method" }, method.toUpperCase()));
  title.append(element("code", {}, path), " ", element("span", { className: "dim" }, operation.description ?? ""));
  const parts = [title];
  const request = operation.requestBody?.content["application/json"]?.schema;
  if (request) parts.push(element("h2", {}, "Request"), element("pre", {}, shape(request, all)));
  for (const [status, answer] of Object.entries(operation.responses ?? {})) {
    const [type, content] = Object.entries(answer.content ?? {})[0] ?? ["", {}];
    parts.push(element("h2", {}, `${status} ${answer.description}`), element("small", {}, type));
    if (content.schema) parts.push(element("pre", {}, shape(content.schema, all)));
  }
  parts.push(element("h2", {}, "Call it"), caller(path, method, operation, all));
  return element("details", { className: "card" }, ...parts);
}

const api = await (await fetch("openapi.json")).json();
document.getElementById("title").textContent = api.info.title;
document.getElementById("about").textContent = api.info.description ?? "";
const groups = new Map();
for (const [path, operations] of Object.entries(api.paths)) {
  for (const [method, operation] of Object.entries(operations)) {
    const group = operation.tags?.[0] ?? "other";
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(drawn(path, method, operation, api.components?.schemas ?? {}));
  }
}
for (const [group, operations] of groups) {
  document.getElementById("operations").append(element("h2", {}, group), ...operations);
}
