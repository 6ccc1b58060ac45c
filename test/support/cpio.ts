/** A cpio archive of the `newc` format, as initrds are. */
export function cpio(files: Readonly<Record<string, Uint8Array>>): Buffer {
  const entries = Object.entries(files).map(([name, content]) => entry(name, content));
  return Buffer.concat([...entries, entry('TRAILER!!!', new Uint8Array(0))]);
}

function entry(name: string, content: Uint8Array): Buffer {
  const fields = Array.from({ length: 13 }, () => '00000000');
  fields[6] = content.length.toString(16).padStart(8, '0');
  fields[11] = (name.length + 1).toString(16).padStart(8, '0');
  const head = Buffer.from(`070701${fields.join('')}${name}\0`);
  const pad = (bytes: Uint8Array) => Buffer.alloc((4 - (bytes.length % 4)) % 4);
  return Buffer.concat([head, pad(head), content, pad(content)]);
}
