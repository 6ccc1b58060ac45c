import { ContentWriter } from '../../shared/delta/layer-delta/content-writer.ts';
import { createEncoders, repack } from '../../shared/recompress/encoders.ts';
import { parseRecipe } from '../../shared/recompress/recipe.ts';
import { collect, contentIn } from './bytes.ts';
import { writeLayerDelta } from './layer-delta.ts';
import { tarOf } from './tiny-image.ts';

/** Packs by a recipe, with the encoders that come with Snapgate. */
export async function packed(recipe: string, content: Buffer): Promise<Buffer> {
  return Buffer.from(
    await collect(repack(createEncoders(), parseRecipe(recipe), contentIn(content, 1000))),
  );
}

/**
 * A layer with one compressed file and `more`, and a delta that builds its content from nothing and packs it by
 * a recipe: what comes out is right only if that is how `file` was packed.
 */
export async function encodingDelta(
  content: Buffer,
  file: Buffer,
  recipe: string,
  more: Readonly<Record<string, string>> = {},
) {
  const tar = Buffer.from(await tarOf({ 'doc.gz': file, ...more }));
  const at = tar.indexOf(file);
  const delta = await writeLayerDelta(tar, [], async (writer) => {
    const built = new ContentWriter(0);
    built.literal(content);
    const part = await writer.build(content.length, [], built.finish());
    const again = writer.encode(part, Buffer.from(recipe), file.length, 1 << 20);
    writer.free(part);
    await writer.literal(tar.subarray(0, at));
    const whole = new ContentWriter(1);
    whole.copy(0, 0, file.length);
    await writer.stream(file.length, [{ kind: 'part', part: again }], whole.finish());
    writer.free(again);
    await writer.literal(tar.subarray(at + file.length));
  });
  return { tar, delta };
}
