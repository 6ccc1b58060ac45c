import { TargetFile } from '@tufjs/models';
import * as v from 'valibot';
import { type Digest, digestFromHex, digestHex, isDigest } from '../digest.ts';
import { SnapgateError } from '../errors.ts';
import { parseVersion } from '../policy/version.ts';
import { invalid } from './metadata.ts';

const digest = v.pipe(
  v.string(),
  v.check((text) => isDigest(text), 'must be a sha256 digest'),
  v.transform((text) => text as Digest),
);
const version = v.pipe(
  v.string(),
  v.check((text) => parseVersion(text) !== undefined, 'must be a version such as 2026.4.1'),
);
const imageSchema = v.object({
  /** `os/architecture[/variant]`. */
  platform: v.pipe(v.string(), v.minLength(1), v.maxLength(255)),
  /** Digest of the config, which is Podman's image id. */
  config: digest,
});
const customSchema = v.object({
  /** Version of the image, for people and for messages. */
  version: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(256))),
  /** The oldest client that may install it. */
  minimumClient: v.optional(version),
  /** The images that the manifest means: one, or one of each platform. */
  images: v.optional(v.pipe(v.array(imageSchema), v.minLength(1), v.maxLength(64)), []),
});

/** What a channel means: the statement that the owner of the images signed. */
export type Statement = {
  /** `<repository>/<tag>`. */
  readonly path: string;
  /** Digest and length in bytes of the manifest or index. */
  readonly digest: Digest;
  readonly length: number;
} & v.InferOutput<typeof customSchema>;

/** Reads a target as a statement. Throws METADATA_INVALID. */
export function statementOf(target: TargetFile): Statement {
  const { path, length, hashes } = target;
  try {
    if (!Number.isSafeInteger(length)) throw new Error('the length is no whole number');
    const { version, minimumClient, images } = v.parse(customSchema, target.custom);
    return {
      ...{ path, length, digest: digestFromHex(String(hashes.sha256)), images },
      ...(version === undefined ? {} : { version }),
      ...(minimumClient === undefined ? {} : { minimumClient }),
    };
  } catch (cause) {
    throw invalid('target', cause, path);
  }
}

/** Writes a statement as a target. Throws METADATA_INVALID for one that could not be read. */
export function targetOf(statement: Statement): TargetFile {
  const { path, digest, length, ...fields } = statement;
  // Of what JSON can hold only.
  const custom = JSON.parse(JSON.stringify(fields));
  const hashes = { sha256: digestHex(digest) };
  const target = new TargetFile({ path, length, hashes, unrecognizedFields: { custom } });
  statementOf(target);
  return target;
}

/** Holds a manifest against the length that was stated. Throws METADATA_MISMATCH. */
export function checkLength({ length, path }: Statement, found: number): void {
  if (found === length) return;
  throw new SnapgateError('METADATA_MISMATCH', `${found} bytes where ${length} are stated`, {
    where: path,
    hint: 'Publish the statement anew with snapgate tuf add.',
  });
}

/** Holds the config of an image against what was stated. Throws METADATA_MISMATCH. */
export function checkStated({ images, path }: Statement, found: Digest): void {
  if (images.length === 0 || images.some(({ config }) => config === found)) return;
  throw new SnapgateError('METADATA_MISMATCH', `the statement does not name config ${found}`, {
    where: path,
    hint: `It names images of ${images.map(({ platform }) => platform).join(', ')}.`,
  });
}
