// What a picture may be, as memssl_keras.demo.naming finds it: things, each with its drawings in the sets.

const MOST_DRAWINGS = 24; // of one thing

/** Whether a row of the gallery is of a thing. */
export const same = ({ about: { groups } }, thing, row) => groups[row] === thing.group;

/** Things by the similarity of their nearest drawing, the likeliest first, and the nearest row of the whole gallery. */
export function named({ about: { groups, sets } }, similarities, count, pinned = "") {
  const things = new Map();
  let best = 0;
  similarities.forEach((similarity, row) => {
    if (similarity > similarities[best]) best = row;
    const thing = things.get(groups[row]) ?? { group: groups[row], similarity: -Infinity, named: row, all: [] };
    if (similarity > thing.similarity) Object.assign(thing, { similarity, named: row });
    if (!pinned || sets[row] === pinned) thing.all.push(row);
    things.set(groups[row], thing);
  });
  const shown = [...things.values()].filter((thing) => thing.all.length).sort((a, b) => b.similarity - a.similarity).slice(0, count);
  for (const thing of shown) thing.rows = ordered(thing.all, similarities, sets);
  return { things: shown, best, similarity: similarities[best] };
}

/** The nearest first, each set's nearest before its further ones. */
function ordered(rows, similarities, sets) {
  const seen = new Set(), first = [], further = [];
  for (const row of [...rows].sort((a, b) => similarities[b] - similarities[a])) {
    (seen.has(sets[row]) ? further : first).push(row);
    seen.add(sets[row]);
  }
  return [...first, ...further].slice(0, MOST_DRAWINGS);
}
