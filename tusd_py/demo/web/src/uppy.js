// The page at `/uppy`: Uppy's Dashboard with its tus plugin.

import Uppy from "@uppy/core";
import Dashboard from "@uppy/dashboard";
import Tus from "@uppy/tus";

import { configure, copyButton, element, byId, speak } from "./dom.js";
import * as format from "./format.js";

async function main() {
  const config = await configure();
  const uppy = new Uppy({ restrictions: { maxFileSize: config.maxSize } });
  uppy.use(Dashboard, {
    inline: true,
    target: "#dashboard",
    theme: "auto",
    width: "100%",
    height: 460,
    showProgressDetails: true,
    proudlyDisplayPoweredByUppy: false,
    hideRetryButton: false,
  });
  uppy.use(Tus, {
    endpoint: config.endpoint,
    retryDelays: [0, 1000, 2000, 4000, 8000, 15000, 30000],
    removeFingerprintOnSuccess: true,
    allowedMetaFields: ["name", "type", "filename", "filetype"],
  });
  uppy.on("upload-success", (file, response) => {
    byId("finished").prepend(row(file, response.uploadURL));
    speak(`${file.name} is uploaded`);
  });
  window.uppy = uppy;
}

function row(file, url) {
  return element(
    "li",
    { class: "card", "data-state": "done" },
    element("span", { class: "badge", "aria-hidden": "true" }, format.kind(file.name)),
    element(
      "div",
      { class: "what" },
      element("p", { class: "name", title: file.name }, file.name),
      element(
        "div",
        { class: "line" },
        element("p", { class: "status" }, "Uploaded"),
        element("p", { class: "numbers" }, format.size(file.size)),
      ),
    ),
    element(
      "div",
      { class: "actions" },
      element(
        "a",
        { class: "button strong", href: url, "aria-label": `Download ${file.name}` },
        "Download",
      ),
      copyButton("Copy link", url, { name: file.name }),
    ),
  );
}

main();
