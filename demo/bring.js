
// A picture that is pasted or dropped anywhere on the page becomes the query, also in place of another; a file that is no
// picture is named.
const PICTURES = /^image\//, ENDINGS = /\.(heic|heif|avif|jxl|jp2|tiff?|bmp|webp|png|jpe?g|gif)$/i;
const bring = async (file) => {
    if (!PICTURES.test(file.type) && !ENDINGS.test(file.name)) return trigger('upload', {refused: file.name});
    document.querySelector('#picture-tab-button, #asking [role=tab]')?.click();
    document.querySelector('#query [aria-label="Remove Image"]')?.click();
    for (let tries = 0; tries < 40; tries++) {
        const input = document.querySelector('#query input[type=file]');
        if (input) {
            const files = new DataTransfer();
            files.items.add(file);
            input.files = files.files;
            return input.dispatchEvent(new Event('change', {bubbles: true}));
        }
        await new Promise((later) => setTimeout(later, 25));
    }
};
// The editor begins with no tool in the hand.
document.querySelector('#asking')?.addEventListener('click', async (event) => {
    if (event.target.closest('[role=tab]')?.textContent.trim() !== 'Draw') return;
    for (let tries = 0; tries < 80; tries++) {
        const brush = document.querySelector('#drawing [aria-label="Brush"]');
        if (brush) return brush.click();
        await new Promise((later) => setTimeout(later, 50));
    }
});
const shown = () => element.offsetParent !== null;
const typing = (event) => event.target.closest?.('input:not([type=file]), textarea, [contenteditable=true]');
document.addEventListener('paste', (event) => {
    const file = [...(event.clipboardData?.files ?? [])][0];
    if (!file || !shown() || typing(event)) return;
    event.preventDefault();
    bring(file);
}, true);
document.addEventListener('dragover', (event) => shown() && event.preventDefault());
document.addEventListener('drop', (event) => {
    const file = event.dataTransfer?.files?.[0];
    if (!file || !shown() || event.target.closest?.('#drawing')) return;
    event.preventDefault();
    event.stopPropagation();
    bring(file);
}, true);
