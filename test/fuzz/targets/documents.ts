import { parseHtpasswd } from '../../../gateway/access/htpasswd.ts';
import { parseDistributionPath } from '../../../gateway/routes/distribution-path.ts';
import { parseAnswerHead } from '../../../gateway/upstream/answer-head.ts';
import { readReferrer } from '../../../gateway/upstream/fallback-referrers.ts';
import { parseEntry, parseEntryFileName } from '../../../host-client/boot/entry.ts';
import { formatGrubenv, parseGrubenv } from '../../../host-client/boot/grubenv.ts';
import { gatewayApi } from '../../../host-client/net/gateway-api.ts';
import { sha256 } from '../../../shared/digest.ts';
import {
  manifestMediaType,
  parseImageConfig,
  parseIndex,
  parseManifest,
} from '../../../shared/oci/manifest.ts';
import { OCI_MANIFEST } from '../../../shared/oci/media-types.ts';
import { parseReference } from '../../../shared/oci/reference.ts';
import { parsePolicy } from '../../../shared/policy/policy.ts';
import { parseChallenges } from '../../../shared/registry/challenge.ts';
import { Repository } from '../../../shared/registry/repository.ts';
import { verifyBundle } from '../../../shared/signing/bundle.ts';
import { buildPayload, verifySimpleSigning } from '../../../shared/signing/simple-signing.ts';
import { inChunks } from '../../support/bytes.ts';
import { makeKey } from '../../support/signatures.ts';
import type { Target } from '../target.ts';

const DIGEST = sha256('an image');
const KEY = makeKey().publicKey;
const descriptor = { mediaType: OCI_MANIFEST, digest: DIGEST, size: 7 };
const manifest = {
  ...{ schemaVersion: 2, mediaType: OCI_MANIFEST, artifactType: 'a/b' },
  ...{ config: descriptor, layers: [descriptor], subject: descriptor, annotations: { a: 'b' } },
};
const index = {
  ...{ schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json' },
  manifests: [{ ...descriptor, platform: { os: 'linux', architecture: 'amd64' } }],
};
const policy = {
  ...{ version: 1, keys: { k: { pem: KEY.pem, validUntil: '2030-01-01T00:00:00Z' } } },
  rules: [
    {
      ...{ repository: 'a.test/os/*', images: { allOf: [{ signers: ['k'], threshold: 1 }] } },
      ...{ oldest: { version: '1.2' }, deniedDigests: [DIGEST], platforms: ['linux/amd64'] },
    },
  ],
};
const way = { method: 'delta', state: 'ready', sourceConfig: DIGEST, bytes: 1 };
const plan = {
  target: { manifest: DIGEST, config: DIGEST, platform: 'linux/amd64', fullBytes: 9 },
  ways: [{ ...way, artifact: { digest: DIGEST, size: 1 }, layers: [] }],
};
const bundle = {
  mediaType: 'application/vnd.dev.sigstore.bundle.v0.3+json',
  verificationMaterial: { publicKey: { hint: 'x' } },
  dsseEnvelope: {
    ...{ payload: 'e30=', payloadType: 'application/vnd.in-toto+json' },
    signatures: [{ sig: 'AA==' }],
  },
};
const JSON_WORDS = [
  ...['{', '}', '[', ']', ',', ':', '"', 'null', 'true', '1e999', '-1', '"__proto__":', '\\u0000'],
  ...['"manifests":[],', '"layers":[],', `"${DIGEST}"`, '"sha512:00"', '9007199254740993', '[[[['],
];
const json = (value: unknown) => async () => [Buffer.from(JSON.stringify(value))];
const text =
  (...lines: string[]) =>
  async () =>
    lines.map((line) => Buffer.from(line));

/** A registry that answers everything with these bytes. */
function answering(bytes: Buffer): Repository {
  return new Repository({
    ...{ baseUrl: new URL('http://a.test'), repository: 'os', pause: async () => {} },
    transport: async () => ({
      ...{ status: 200, headers: { 'content-type': 'application/json' } },
      body: inChunks(bytes, 1000),
    }),
  });
}

export const DOCUMENT_TARGETS: readonly Target[] = [
  {
    name: 'manifest',
    samples: json(manifest),
    words: JSON_WORDS,
    read(input) {
      const mediaType = manifestMediaType(input, OCI_MANIFEST);
      parseManifest(input);
      readReferrer({ bytes: input, digest: sha256(input), mediaType });
    },
  },
  { name: 'index', samples: json(index), words: JSON_WORDS, read: (input) => parseIndex(input) },
  {
    name: 'image-config',
    samples: json({
      os: 'linux',
      architecture: 'amd64',
      rootfs: { type: 'layers', diff_ids: [DIGEST] },
    }),
    words: JSON_WORDS,
    read: (input) => parseImageConfig(input),
  },
  {
    name: 'referrers',
    samples: json(index),
    words: JSON_WORDS,
    read: (input) => answering(input).listReferrers(DIGEST),
  },
  {
    name: 'plan',
    samples: json(plan),
    words: JSON_WORDS,
    read: (input) => gatewayApi(answering(input)).plan({ target: 'v1', have: [] }),
  },
  {
    name: 'policy',
    samples: json(policy),
    words: [...JSON_WORDS, '"signers":', '"anyOf":', '"threshold":', '"identities":', '.*'],
    read: (input) => parsePolicy(input.toString('utf8'), 'policy.json'),
  },
  {
    name: 'bundle',
    samples: json(bundle),
    words: JSON_WORDS,
    read(input) {
      const verdict = verifyBundle(input, DIGEST, [KEY]);
      if (verdict.good) throw new Error('nobody signed this');
      return verdict.reason;
    },
  },
  {
    name: 'simple-signing',
    samples: async () => [Buffer.from(buildPayload(DIGEST, 'a.test/os:v1'))],
    words: JSON_WORDS,
    read(input) {
      const keys = [KEY];
      if (verifySimpleSigning(input, 'AAAA', DIGEST, keys).good)
        throw new Error('nobody signed this');
    },
  },
  {
    name: 'challenge',
    samples: text(
      'Bearer realm="https://a.test/token",service="a",scope="repository:os:pull", Basic',
    ),
    words: ['Bearer ', 'realm=', '"', '\\"', ', ', '='],
    read: (input) => parseChallenges(input.toString('latin1')).length,
  },
  {
    name: 'answer-head',
    samples: text('HTTP/1.1 200 OK\r\nContent-Length: 7\r\nX: y'),
    words: ['\r\n', 'Transfer-Encoding: chunked', 'Content-Length: ', '__proto__: x', ': '],
    read: (input) => parseAnswerHead(input.toString('latin1')),
  },
  {
    name: 'distribution-path',
    samples: text(`/v2/os/x/manifests/${DIGEST}`, '/v2/os/blobs/uploads/abc', '/v2/os/tags/list'),
    words: ['/../', '%2e%2e', '%2F', '/manifests/', '/blobs/uploads/', '/_snapgate/', '%00'],
    read(input) {
      const path = parseDistributionPath(input.toString('latin1'));
      if (path !== undefined && 'name' in path && /\.\.|%|\s/.test(path.name)) {
        throw new Error(`a repository of a strange name: ${path.name}`);
      }
    },
  },
  {
    name: 'reference',
    samples: text(`docker://a.test:5000/os/x:v1@${DIGEST}`, 'oci:/folder:v1', 'oci-archive:f.tar'),
    words: ['docker://', '@sha256:', ':', '/', '..', '[::1]'],
    read: (input) => parseReference(input.toString('utf8')),
  },
  {
    name: 'boot-entry',
    samples: text(
      'title OS\nversion 0000000001\nlinux /a/vmlinuz\ninitrd /a/initrd\noptions ro quiet\n',
    ),
    words: ['\n', 'options ', 'linux ', '\t'],
    read(input) {
      const found = parseEntry('a', input.toString('latin1'));
      if (!Number.isSafeInteger(found.rank) || found.rank < 0) throw new Error('a strange rank');
      parseEntryFileName(input.toString('latin1'));
    },
  },
  {
    name: 'grubenv',
    samples: async () => [
      formatGrubenv(
        new Map([
          ['saved_entry', 'a'],
          ['tries', '3'],
        ]),
      ),
    ],
    words: ['\n', '=', '\\', '#'],
    read: (input) => parseGrubenv(input),
  },
  {
    name: 'htpasswd',
    samples: text(`alice:$2y$05$${'a'.repeat(53)}\n`),
    words: ['\n', ':', '$2b$31$', '#'],
    read: (input) => parseHtpasswd(input.toString('utf8'), 'f'),
  },
];
