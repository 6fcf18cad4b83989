const $ = (id) => document.getElementById(id);
const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
const short = (number) => Number(number.toPrecision(4));

let inputs = [];

function field(feature) {
  const input = element("input", { type: "number", step: "any", required: true, name: feature.name });
  input.value = short((feature.min + feature.max) / 2);
  const mark = () => input.classList.toggle("outside", input.value < feature.min || input.value > feature.max);
  input.addEventListener("input", mark);
  inputs.push({ input, feature, mark });
  const range = `seen: ${short(feature.min)} to ${short(feature.max)}`;
  return element("label", {}, feature.name.replaceAll("_", " "), input, element("small", {}, range));
}

function bar(name, probability) {
  const percent = `${(100 * probability).toFixed(1)} %`;
  const meter = element("meter", { min: 0, max: 1, value: probability });
  meter.setAttribute("aria-label", `${name}: ${percent}`);
  const row = element("div", { className: "bar" }, element("span", {}, name), meter, element("output", {}, percent));
  return row;
}

function refuse(text) {
  $("answer").className = "refused";
  $("answer").textContent = text;
  $("bars").replaceChildren();
}

async function predict(names) {
  const row = inputs.map(({ input }) => Number(input.value));
  const started = performance.now();
  const answer = await fetch("predict", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ features: [row] }),
  });
  const body = await answer.json();
  const milliseconds = performance.now() - started;
  const pod = answer.headers.get("x-pod-name");
  $("latency").textContent = `${milliseconds.toFixed(1)} ms from this page and back, answered by ${pod}`;
  if (!answer.ok) {
    refuse(body.detail.map((problem) => `${problem.loc.join(".")}: ${problem.msg}`).join("\n"));
    return;
  }
  $("answer").className = "";
  $("answer").textContent = body.class_names ? body.class_names[0] : short(body.predictions[0]);
  const probabilities = body.probabilities ? body.probabilities[0] : [];
  $("bars").replaceChildren(...probabilities.map((probability, place) => bar(names[place], probability)));
}

async function start() {
  const answer = await fetch("model");
  const model = await answer.json();
  if (!answer.ok) {
    $("fields").replaceChildren();
    refuse(`No model is served: ${model.detail[0].msg}`);
    setTimeout(start, 2000);
    return;
  }
  $("name").textContent = model.name;
  $("about").textContent = `version ${model.version}, served by ${model.backend}, sha256 ${model.sha256.slice(0, 12)}`;
  $("about").title = model.estimator;
  inputs = [];
  $("fields").replaceChildren(...model.features.map(field));
  $("answer").className = "dim";
  $("answer").textContent = "No prediction yet";
  $("form").onsubmit = (event) => {
    event.preventDefault();
    predict(model.class_names).catch((error) => refuse(`The server didn't answer: ${error.message}`));
  };
  $("random").onclick = () => {
    for (const { input, feature, mark } of inputs) {
      input.value = short(feature.min + Math.random() * (feature.max - feature.min));
      mark();
    }
    $("form").requestSubmit();
  };
}

start().catch((error) => refuse(`The server didn't answer: ${error.message}`));
