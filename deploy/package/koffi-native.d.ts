declare module 'koffi-native' {
  /** The native module, packed with zstd. */
  export const packed: Uint8Array;
}
