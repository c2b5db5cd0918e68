// What went wrong, in plain words. Pure.

import { size } from "./format.js";

const BY_STATUS = {
  400: "The server did not understand the request.",
  401: "You are not signed in.",
  403: "You are not allowed to upload here.",
  404: "This upload is no longer on the server. Start it again.",
  409: "The server and this page disagree about how far the upload is. Try again.",
  410: "This upload has expired. Start it again.",
  413: "The file is larger than this server accepts.",
  415: "The server does not take this kind of request.",
  423: "Another tab or program is writing this upload. Try again in a moment.",
  429: "The server asks to wait a little. Try again in a moment.",
  460: "The bytes arrived damaged and were not kept. Try again.",
  507: "The server has no room left.",
};

export const NO_CONNECTION = "No connection to the server. What arrived is kept.";
export const FILE_CHANGED = "The file can no longer be read. Was it moved or changed? Choose it again.";

export function statusOf(error) {
  return error?.originalResponse?.getStatus() ?? 0;
}

/** True when only waiting can help: the network or the server is away. */
export function isInterruption(error) {
  const status = statusOf(error);
  if (status) return status === 409 || status === 423 || status === 429 || status >= 500;
  return Boolean(error?.originalRequest);
}

export function describe(error) {
  const status = statusOf(error);
  if (status) {
    const told = detailOf(error);
    if (BY_STATUS[status]) return BY_STATUS[status];
    if (status >= 500) return "The server has a problem. What arrived is kept.";
    return told || `The server refused the upload (${status}).`;
  }
  if (error?.originalRequest) return NO_CONNECTION;
  if (error?.name === "NotReadableError" || error?.name === "NotFoundError") return FILE_CHANGED;
  return "Something went wrong in this page. Try again.";
}

export function tooLarge(limit) {
  return `The file is larger than the ${size(limit)} that this server accepts.`;
}

function detailOf(error) {
  try {
    return JSON.parse(error.originalResponse.getBody()).detail ?? "";
  } catch {
    return "";
  }
}
