// What carries an id is copied at a click.
document.addEventListener('click', async (event) => {
    const button = event.target.closest?.('[data-copy]');
    if (!button || button.dataset.copied) return;
    try {
        await navigator.clipboard.writeText(button.dataset.copy);
    } catch {  // on an address without encryption there is no clipboard
        const field = Object.assign(document.createElement('textarea'), {value: button.dataset.copy});
        document.body.append(field);
        field.select();
        document.execCommand('copy');
        field.remove();
    }
    button.dataset.copied = 'Copied';
    setTimeout(() => delete button.dataset.copied, 1200);
});
