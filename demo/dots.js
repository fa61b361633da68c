// The dots of the map: a picture beside the one under the pointer or with the focus, and arrow keys from dot to dot.
// A dot is a button, so that Enter does what a click does; one of them at a time can be reached with Tab.
const hint = document.createElement('div');
hint.id = 'map-hint';
hint.hidden = true;
document.body.append(hint);
const hide = () => { hint.hidden = true; };
const show = (dot) => {
    const image = document.createElement('img');
    image.src = dot.dataset.picture;
    image.alt = '';
    hint.replaceChildren(image, dot.getAttribute('aria-label'));
    hint.hidden = false;
    const place = dot.getBoundingClientRect();
    hint.style.left = `${Math.max(8, Math.min(place.left + 14, window.innerWidth - 160))}px`;
    hint.style.top = `${Math.max(8, Math.min(place.top - 20, window.innerHeight - 180))}px`;
};
const dotOf = (event) => event.target.closest('.dot');
element.addEventListener('pointerover', (event) => dotOf(event) ? show(dotOf(event)) : hide());
element.addEventListener('pointerleave', hide);
window.addEventListener('scroll', hide, {passive: true});

const ways = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
// The nearest dot that way, counting what lies off the way twice; none where there is nothing.
const next = (dot, [right, down]) => {
    const {width, height} = dot.parentElement.getBoundingClientRect();
    const at = (one) => [parseFloat(one.style.left) * width / 100, parseFloat(one.style.top) * height / 100];
    const [x, y] = at(dot);
    let best = null, least = Infinity;
    for (const other of dot.parentElement.children) {
        const [otherX, otherY] = at(other);
        const along = (otherX - x) * right + (otherY - y) * down;
        const beside = Math.abs((otherX - x) * down) + Math.abs((otherY - y) * right);
        if (along > .01 && along + 2 * beside < least) [best, least] = [other, along + 2 * beside];
    }
    return best;
};
element.addEventListener('focusin', (event) => {
    const dot = dotOf(event);
    if (!dot) return;
    element.querySelectorAll('.dot[tabindex="0"]').forEach((other) => { other.tabIndex = -1; });
    dot.tabIndex = 0;
    show(dot);
});
element.addEventListener('focusout', hide);
element.addEventListener('keydown', (event) => {
    const dot = dotOf(event);
    if (!dot) return;
    if (event.key === 'Escape') hide();
    if (!(event.key in ways) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    next(dot, ways[event.key])?.focus();
});
