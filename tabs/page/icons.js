// Drawings on a grid of 24, stroked with the color of the text. "fill " first: filled instead.

/** @type {Object<string, string[]>} */
export const PATHS = {
  close: ["M6 6l12 12", "M18 6L6 18"],
  use: ["M9 7L4 12l5 5", "M4 12h10a6 6 0 0 1 6 6v1"],
  star: ["M12 4l2.5 5.2 5.7.8-4.1 4 1 5.7-5.1-2.7-5.1 2.7 1-5.7-4.1-4 5.7-.8z"],
  starred: ["fill M12 4l2.5 5.2 5.7.8-4.1 4 1 5.7-5.1-2.7-5.1 2.7 1-5.7-4.1-4 5.7-.8z"],
  download: ["M12 4v11", "M7 11l5 5 5-5", "M5 20h14"],
  trash: ["M4 7h16", "M9 7V4h6v3", "M6 7l1 13h10l1-13"],
  down: ["M6 9l6 6 6-6"],
  left: ["M15 5l-7 7 7 7"],
  right: ["M9 5l7 7-7 7"],
  up: ["M12 20V5", "M6 11l6-6 6 6"],
  go: ["M4 12h15", "M13 6l6 6-6 6"],
  search: ["M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13z", "M15.5 15.5L21 21"],
  queue: ["M4 6h16", "M4 12h16", "M4 18h10"],
  dark: ["M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z"],
  light: ["M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8z", "M12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M5 19l2-2M17 7l2-2"],
  auto: ["M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16z", "fill M12 5a7 7 0 0 1 0 14z"],
  swap: ["M4 8h15", "M15 4l4 4-4 4", "M20 16H5", "M9 12l-4 4 4 4"],
  again: ["M20 12a8 8 0 1 1-2.6-5.9", "M20 3v5h-5"],
  copy: ["M9 9h11v11H9z", "M5 15H4V4h11v1"],
  grid: ["M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z"],
  keys: ["M3 6h18v12H3z", "M7 10h.01M11 10h.01M15 10h.01M7 14h10"],
  file: ["M6 3h8l4 4v14H6z", "M14 3v4h4"],
};
