// Words in a prompt: there, put at its end, taken out.

/** Whether a word is in a prompt. */
export const isIn = (prompt, word) => prompt.toLowerCase().includes(word.toLowerCase());

/** A prompt with a word at its end. */
export const withWord = (prompt, word) => (prompt.trim() ? `${prompt.trimEnd().replace(/,$/, "")}, ${word}` : word);

/** A prompt without a word: behind a comma as it was put in, else where it stands first. */
export function withoutWord(prompt, word) {
  const text = prompt.toLowerCase();
  const wanted = word.toLowerCase();
  const put = text.lastIndexOf(`, ${wanted}`);
  if (put >= 0) return prompt.slice(0, put) + prompt.slice(put + wanted.length + 2);
  const at = text.indexOf(wanted);
  return (prompt.slice(0, at) + prompt.slice(at + wanted.length)).replace(/^[\s,]+/, "");
}
