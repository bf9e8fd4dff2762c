// Where a picture lies in the window it is painted in: fitted, zoomed, moved. Numbers only.

const MARGIN = 20;
const LEAST = 0.05;
const MOST = 32;
/** A picture of few pixels is not blown up beyond what can still be painted on. */
const MOST_FITTED = 6;
const STAYS = 48;

/** Of a picture of so many pixels; `tell` is called at every change. */
export function makeView(tell) {
  let picture = { width: 1, height: 1 };
  let room = { width: 1, height: 1 };
  let isFitted = true;
  const at = { scale: 1, x: 0, y: 0 };

  function fit() {
    isFitted = true;
    const margin = Math.min(MARGIN, room.width * 0.04);
    at.scale = Math.max(
      LEAST,
      Math.min((room.width - 2 * margin) / picture.width, (room.height - 2 * margin) / picture.height, MOST_FITTED),
    );
    at.x = (room.width - picture.width * at.scale) / 2;
    at.y = (room.height - picture.height * at.scale) / 2;
    tell();
  }

  // Some of the picture always stays in sight.
  function hold() {
    const [width, height] = [picture.width * at.scale, picture.height * at.scale];
    at.x = Math.min(room.width - STAYS, Math.max(STAYS - width, at.x));
    at.y = Math.min(room.height - STAYS, Math.max(STAYS - height, at.y));
  }

  return {
    at,
    fit,
    isFitted: () => isFitted,
    /** Another picture, or another window. */
    measure(nextPicture, nextRoom) {
      const isOther = nextPicture.width !== picture.width || nextPicture.height !== picture.height;
      picture = nextPicture;
      room = nextRoom;
      if (isOther || isFitted) fit();
      else {
        hold();
        tell();
      }
    },
    /** Zoom by a factor around a point of the window; around its middle without one. */
    zoom(factor, x = room.width / 2, y = room.height / 2) {
      const scale = Math.min(MOST, Math.max(LEAST, at.scale * factor));
      at.x = x - ((x - at.x) * scale) / at.scale;
      at.y = y - ((y - at.y) * scale) / at.scale;
      at.scale = scale;
      isFitted = false;
      hold();
      tell();
    },
    pan(dx, dy) {
      at.x += dx;
      at.y += dy;
      isFitted = false;
      hold();
      tell();
    },
    /** From the window to the picture. */
    toPicture: (x, y) => ({ x: (x - at.x) / at.scale, y: (y - at.y) / at.scale }),
  };
}
