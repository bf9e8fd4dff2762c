// One sentence at the foot of the page on what went wrong, where no field or line can say it.

import { alarm } from "../ui/live.js";
import { offerUndo } from "../ui/undo_bar.js";
import { sentenceOf } from "./api.js";

/** Say what went wrong where nothing else on the page can, to the eye and to the ear. */
export function say(problem) {
  const text = sentenceOf(problem);
  alarm(text);
  offerUndo(text, null);
}
