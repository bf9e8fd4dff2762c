// Pictures of this page that are dragged to another place of it, by their id.

const KIND = "application/x-darkroom-picture";

/** Attribute of the places that take a picture themselves; elsewhere the whole page offers what to do. */
export const MARK = "data-takes-pictures";

/** Let a picture be dragged away. id: of the gallery's picture, asked for when the dragging begins. */
export function makeDraggable(element, id) {
  element.draggable = true;
  element.addEventListener("dragstart", (event) => {
    const known = id(event);
    if (!known) {
      event.preventDefault();
      return;
    }
    event.dataTransfer?.setData(KIND, known);
    if (event.dataTransfer) event.dataTransfer.effectAllowed = "copy";
  });
}

/**
 * The id of the dragged picture, if it is one of ours. Only known when it is dropped.
 * @param {DataTransfer} transfer
 */
export const draggedPicture = (transfer) => transfer.getData(KIND) || null;

/** What is dragged over the page: "file", "picture" (one of ours), or null. */
export function draggedKind(event) {
  const kinds = [...(event.dataTransfer?.types ?? [])];
  if (kinds.includes(KIND)) return "picture";
  return kinds.includes("Files") ? "file" : null;
}
