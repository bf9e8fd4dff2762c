// Which texts are templates, with something to draw in them. No DOM.

const DYNAMIC = /\{[^{}]*\||\{\d+(?:-\d+)?\$\$|__[^\s{}|,]+?__/;

/** Whether one of some texts is one. @param {(string|null)[]} texts */
export const isDynamic = (...texts) => texts.some((text) => text && DYNAMIC.test(text));

/** Whether the form's prompts, or those of its regions, hold one. */
export const hasDynamic = (values) =>
  [values, ...values["regions.regions"]].some((one) => isDynamic(one.prompt, one.negative_prompt));

/** What is made of one. */
export const drawnWords = ({ count }) =>
  count === 1 ? "One of its choices is drawn." : "Each picture draws its own choices.";
