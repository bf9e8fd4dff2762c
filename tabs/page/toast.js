// One sentence at the foot of the page on what went wrong, where no field or line can say it.

import { inWords } from "./api.js";
import { alarm } from "./live.js";
import { offerUndo } from "./undo_bar.js";

/** Say what went wrong where nothing else on the page can, to the eye and to the ear. */
export function say(problem) {
  const { message, hint = "" } = inWords(problem);
  const text = `${message} ${hint}`.trim();
  alarm(text);
  offerUndo(text, null);
}
