// Which texts are templates, with something to draw in them. No DOM.

const DYNAMIC = /\{[^{}]*\||\{\d+(?:-\d+)?\$\$|__[^\s{}|,]+?__/;

/** Whether a text is one. */
export const isDynamic = (text) => DYNAMIC.test(text);
