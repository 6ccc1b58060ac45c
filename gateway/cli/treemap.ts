import { baseName } from '../delta/entry-path.ts';
/** A thing of a treemap; its area follows `bytes`. */
export type TreemapItem = { readonly name: string; readonly group: string; readonly bytes: number };

type Box = {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
};

const WIDTH = 1200;
const HEIGHT = 800;
/** Smaller items have no text, and smaller shares of a whole are put together as "others". */
const MIN_TEXT = { width: 60, height: 14 } as const;
const MIN_SHARE = 1 / 2000;
const COLOURS = ['#4477aa', '#228833', '#ccbb44', '#ee6677', '#aa3377', '#66ccee'];

/** An SVG picture in which the area of each item shows its bytes; items of a group share a colour. */
export function treemap(title: string, items: readonly TreemapItem[]): string {
  const total = items.reduce((sum, item) => sum + item.bytes, 0);
  const large = items.filter((item) => item.bytes >= total * MIN_SHARE);
  const rest = total - large.reduce((sum, item) => sum + item.bytes, 0);
  const others = rest > 0 ? [{ name: 'others', group: 'others', bytes: rest }] : [];
  const sorted = [...large, ...others].sort((a, b) => b.bytes - a.bytes);
  const groups = [...new Set(sorted.map((item) => item.group))];
  const boxes: string[] = [];
  layOut(sorted, { x: 0, y: 30, width: WIDTH, height: HEIGHT - 30 }, (item, box) => {
    boxes.push(drawn(item, box, COLOURS[groups.indexOf(item.group) % COLOURS.length] ?? '#888'));
  });
  const key = groups.map((group, i) => {
    const x = WIDTH - 130 * (groups.length - i);
    return `<rect x="${x}" y="8" width="12" height="12" fill="${COLOURS[i % COLOURS.length]}"/><text x="${x + 16}" y="19">${escaped(group)}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="11">`,
    `<title>${escaped(title)}</title>`,
    `<text x="4" y="20" font-size="15">${escaped(title)}</text>`,
    ...[...key, ...boxes, '</svg>\n'],
  ].join('\n');
}

/** Halves the items by bytes and the box along its longer side, again and again. */
function layOut(
  items: readonly TreemapItem[],
  box: Box,
  draw: (item: TreemapItem, box: Box) => void,
): void {
  const [first, ...more] = items;
  if (first === undefined) return;
  if (more.length === 0) {
    draw(first, box);
    return;
  }
  const total = items.reduce((sum, item) => sum + item.bytes, 0);
  let count = 1;
  let sum = first.bytes;
  while (count < items.length - 1 && sum + (items[count]?.bytes ?? 0) <= total / 2) {
    sum += items[count]?.bytes ?? 0;
    count += 1;
  }
  const share = total === 0 ? 0.5 : sum / total;
  const [a, b] = split(box, share);
  layOut(items.slice(0, count), a, draw);
  layOut(items.slice(count), b, draw);
}

function split(box: Box, share: number): [Box, Box] {
  const { x, y, width, height } = box;
  if (width >= height) {
    const cut = width * share;
    return [
      { ...box, width: cut },
      { ...box, x: x + cut, width: width - cut },
    ];
  }
  const cut = height * share;
  return [
    { ...box, height: cut },
    { ...box, y: y + cut, height: height - cut },
  ];
}

function drawn({ name, bytes }: TreemapItem, { x, y, width, height }: Box, colour: string): string {
  const number = (value: number) => value.toFixed(1);
  const place = `x="${number(x)}" y="${number(y)}" width="${number(width)}" height="${number(height)}"`;
  const hint = `<title>${escaped(name)}: ${bytes} bytes</title>`;
  const rect = `<rect ${place} fill="${colour}" stroke="white">${hint}</rect>`;
  if (width < MIN_TEXT.width || height < MIN_TEXT.height) return rect;
  const text = baseName(name).slice(0, Math.floor(width / 7));
  return `${rect}<text x="${number(x + 3)}" y="${number(y + 12)}" fill="white">${escaped(text)}</text>`;
}

/** As text of XML; characters that XML cannot hold are shown as question marks. */
function escaped(text: string): string {
  return text
    .replace(/[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd]/g, '?')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('"', '&quot;');
}
