import { createHash, createPublicKey, verify } from 'node:crypto';
import { createRequire } from 'node:module';
import { SnapgateError } from '../../shared/errors.ts';
import { type PublicKey, publicKeyOf } from '../../shared/signing/public-key.ts';
import type { Signer } from './signer.ts';

// PKCS#11 2.40: names and values are those of its header files.
const CKR_ALREADY_INITIALIZED = 0x191;
const CKR_USER_ALREADY_LOGGED_IN = 0x100;
const CKF_SERIAL_SESSION = 4;
const CKU_USER = 1;
const CKO_PUBLIC_KEY = 2;
const CKO_PRIVATE_KEY = 3;
const CKA_CLASS = 0;
const CKA_LABEL = 3;
const CKA_EC_POINT = 0x181;
const CKM_ECDSA = 0x1041;
/** Where the functions stand in CK_FUNCTION_LIST, after its version. */
const FUNCTIONS = {
  C_Initialize: [0, ['void *']],
  C_GetSlotList: [4, ['uint8', 'void *', 'void *']],
  C_GetTokenInfo: [6, ['ulong', 'void *']],
  C_OpenSession: [12, ['ulong', 'ulong', 'void *', 'void *', 'void *']],
  C_CloseSession: [13, ['ulong']],
  C_Login: [18, ['ulong', 'ulong', 'void *', 'ulong']],
  C_GetAttributeValue: [24, ['ulong', 'ulong', 'void *', 'ulong']],
  C_FindObjectsInit: [26, ['ulong', 'void *', 'ulong']],
  C_FindObjects: [27, ['ulong', 'void *', 'ulong', 'void *']],
  C_FindObjectsFinal: [28, ['ulong']],
  C_SignInit: [42, ['ulong', 'void *', 'ulong']],
  C_Sign: [43, ['ulong', 'void *', 'ulong', 'void *', 'void *']],
} as const;
type FunctionName = keyof typeof FUNCTIONS;
/** A CK_ULONG and a pointer on the 64-bit Linux machines that this runs on, in bytes. */
const WORD = 8;
const TOKEN_INFO_BYTES = 512;
const LABEL_BYTES = 32;
const MAX_SLOTS = 64;
const P256_BYTES = 32;

/** A key in a token, and how to get at it. */
export type Pkcs11Options = {
  /** Path of the module, a shared library. */
  readonly module: string;
  /** Label of the token. */
  readonly token: string;
  /** Label of the key pair, ECDSA on P-256, in it. */
  readonly key: string;
  readonly pin: string;
};

/** A signer that holds a session of a token. */
export type Pkcs11Signer = Signer & { close(): void };

/**
 * Opens a key in a PKCS#11 token; the private key never leaves it. Throws KEY_INVALID with what the
 * module answered.
 */
export function openPkcs11(options: Pkcs11Options): Pkcs11Signer {
  const { module, token, key } = options;
  const calls = loadModule(module);
  const call = (name: FunctionName, ...values: unknown[]) => {
    const result = Number(calls(name, ...values));
    if (result !== 0) throw refused(`${name} answered 0x${result.toString(16)}`, token);
  };
  const slot = findSlot(call, token);
  const handle = Buffer.alloc(WORD);
  call('C_OpenSession', slot, CKF_SERIAL_SESSION, null, null, handle);
  const session = handle.readBigUInt64LE();
  const pin = Buffer.from(options.pin);
  const login = Number(calls('C_Login', session, CKU_USER, pin, pin.length));
  if (login !== 0 && login !== CKR_USER_ALREADY_LOGGED_IN) {
    throw refused(`the token does not open with this PIN (0x${login.toString(16)})`, token);
  }
  const privateKey = findObject(call, session, CKO_PRIVATE_KEY, key);
  const publicKey = readPublicKey(
    call,
    session,
    findObject(call, session, CKO_PUBLIC_KEY, key),
    key,
  );
  return {
    publicKey,
    async sign(data) {
      const hash = createHash('sha256').update(data).digest();
      const signature = Buffer.alloc(2 * P256_BYTES);
      const length = word(signature.length);
      const mechanism = Buffer.concat([word(CKM_ECDSA), word(0), word(0)]);
      call('C_SignInit', session, mechanism, privateKey);
      call('C_Sign', session, hash, hash.length, signature, length);
      const der = toDer(signature);
      // The pair is known by its label only; a label may lie.
      if (verify('sha256', data, publicKey.keyObject, der)) return der;
      throw refused('the private key does not fit the public key of this label', key);
    },
    close: () => call('C_CloseSession', session),
  };
}

type Call = (name: FunctionName, ...values: unknown[]) => void;

/** Loads a module and gives its functions; which of them there are it says itself. */
function loadModule(path: string): (name: FunctionName, ...values: unknown[]) => unknown {
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
    const list = Buffer.alloc(WORD);
    const getList = koffi.load(path).func('C_GetFunctionList', 'ulong', ['void *']);
    if (Number(getList(list)) !== 0) throw new Error('it names no functions');
    const base = list.readBigUInt64LE();
    const call = (name: FunctionName, ...values: unknown[]) => {
      const [index, types] = FUNCTIONS[name];
      const address = koffi.decode(base + BigInt(WORD * (index + 1)), 'uint64');
      return koffi.call(BigInt(address), koffi.proto('ulong', [...types]), ...values);
    };
    const started = Number(call('C_Initialize', null));
    if (started === 0 || started === CKR_ALREADY_INITIALIZED) return call;
    throw new Error(`it does not start (0x${started.toString(16)})`);
  } catch (cause) {
    throw new SnapgateError('KEY_INVALID', `PKCS#11 module: ${(cause as Error).message}`, {
      where: path,
      hint: 'Name the module of the token, such as /usr/lib/softhsm/libsofthsm2.so.',
      cause,
    });
  }
}

function findSlot(call: Call, token: string): bigint {
  const slots = Buffer.alloc(MAX_SLOTS * WORD);
  const count = word(MAX_SLOTS);
  call('C_GetSlotList', 1, slots, count);
  for (let i = 0; i < Number(count.readBigUInt64LE()); i += 1) {
    const slot = slots.readBigUInt64LE(i * WORD);
    const info = Buffer.alloc(TOKEN_INFO_BYTES);
    call('C_GetTokenInfo', slot, info);
    if (info.subarray(0, LABEL_BYTES).toString().trimEnd() === token) return slot;
  }
  throw refused('there is no such token', token);
}

/** The one object of a class and label. */
function findObject(call: Call, session: bigint, kind: number, label: string): bigint {
  const name = Buffer.from(label);
  const classValue = word(kind);
  const template = attributes([CKA_CLASS, classValue], [CKA_LABEL, name]);
  const found = Buffer.alloc(2 * WORD);
  const count = word(0);
  call('C_FindObjectsInit', session, template, 2);
  call('C_FindObjects', session, found, 2, count);
  call('C_FindObjectsFinal', session);
  if (count.readBigUInt64LE() === 1n) return found.readBigUInt64LE();
  const what = kind === CKO_PRIVATE_KEY ? 'private' : 'public';
  throw refused(`the token holds ${count.readBigUInt64LE()} ${what} keys of this label`, label);
}

function readPublicKey(call: Call, session: bigint, object: bigint, label: string): PublicKey {
  const point = Buffer.alloc(2 + 1 + 2 * P256_BYTES);
  const template = attributes([CKA_EC_POINT, point]);
  call('C_GetAttributeValue', session, object, template, 1);
  // An uncompressed point in a DER OCTET STRING.
  if (point[0] !== 0x04 || point[1] !== 65 || point[2] !== 0x04) {
    throw refused('the key is not ECDSA P-256', label);
  }
  const x = point.subarray(3, 3 + P256_BYTES).toString('base64url');
  const y = point.subarray(3 + P256_BYTES).toString('base64url');
  const jwk = { kty: 'EC', crv: 'P-256', x, y };
  return publicKeyOf(createPublicKey({ key: jwk, format: 'jwk' }), label);
}

/** CK_ATTRIBUTE structures. The values must live until the call has ended. */
function attributes(...list: readonly [number, Buffer][]): Buffer {
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
  return Buffer.concat(
    list.map(([type, value]) =>
      Buffer.concat([word(type), word(BigInt(koffi.address(value))), word(value.length)]),
    ),
  );
}

function word(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(WORD);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

/** Two numbers side by side as the DER sequence that everybody else reads. */
function toDer(raw: Buffer): Buffer {
  const integer = (bytes: Buffer) => {
    const start = bytes.findIndex((byte) => byte !== 0);
    const digits = start < 0 ? Buffer.from([0]) : bytes.subarray(start);
    const padded = (digits[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), digits]) : digits;
    return Buffer.concat([Buffer.from([2, padded.length]), padded]);
  };
  const body = Buffer.concat([
    integer(raw.subarray(0, P256_BYTES)),
    integer(raw.subarray(P256_BYTES)),
  ]);
  return Buffer.concat([Buffer.from([0x30, body.length]), body]);
}

function refused(message: string, where: string): SnapgateError {
  return new SnapgateError('KEY_INVALID', `PKCS#11: ${message}`, {
    where,
    hint: 'See the labels of the token and of its key, and its PIN.',
  });
}
