// Files that are dropped, opened or pasted.

export const LARGEST = 10_000_000;

export function isPicture(file: { type: string; name: string }): boolean {
  return /^image\/(png|jpeg)$/.test(file.type) || (file.type === '' && /\.(png|jpe?g)$/i.test(file.name));
}

/** Its bytes in base64, as `read_qr` takes them. */
export function base64(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}

export function looksLikeLink(text: string): boolean {
  return /^\s*mast:/i.test(text);
}

/** "wg0" of "wg0.conf". */
export function stem(fileName: string): string {
  return fileName.replace(/^.*[\\/]/, '').replace(/\.[^.]*$/, '');
}
