// The login page: one password, sent once.

import { $, say } from "/static/camera/dom.js";
import { act } from "/static/api.js";

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = $("enter");
  button.disabled = true;
  $("problem").hidden = true;
  try {
    await act("/api/login", { password: $("password").value });
    location.assign("/");
  } catch (error) {
    const away = error instanceof TypeError || error.name === "TimeoutError";
    say($("problem-words"), away ? "The server does not answer. Try again in a moment." : error.message);
    $("problem").hidden = false;
    button.disabled = false;
    $("password").select();
  }
});
