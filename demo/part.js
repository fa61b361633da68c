// A box over the picture in #query, as fractions of the picture: drawn with the mouse, a finger or a pen, or placed with
// the arrow keys. It lies on the page, over the picture, for the picture's own element comes and goes.
let box = null, start = null, shape = null;
const picture = () => document.querySelector('#query img');
const frame = () => {
    const image = picture(), outer = image.getBoundingClientRect();
    const scale = Math.min(outer.width / image.naturalWidth, outer.height / image.naturalHeight);
    const width = image.naturalWidth * scale, height = image.naturalHeight * scale;
    return {left: outer.left + (outer.width - width) / 2, top: outer.top + (outer.height - height) / 2, width, height};
};
const within = (value) => Math.min(1, Math.max(0, value));
const place = (event) => {
    const {left, top, width, height} = frame();
    return [within((event.clientX - left) / width), within((event.clientY - top) / height)];
};
const open = (first) => {
    clear();
    shape = first;
    box = document.createElement('div');
    box.id = 'part-box';
    document.body.append(box);
};
const draw = () => {
    if (!box || !shape) return;
    const {left, top, width, height} = frame();
    Object.assign(box.style, {
        left: `${left + shape[0] * width}px`, top: `${top + shape[1] * height}px`,
        width: `${(shape[2] - shape[0]) * width}px`, height: `${(shape[3] - shape[1]) * height}px`,
    });
};
const clear = () => {
    const old = box;
    box = start = shape = null;  // first, for taking it away takes the focus from it
    old?.remove();
};

const onPicture = (event) => event.target.matches('#query img');
document.addEventListener('dragstart', (event) => onPicture(event) && event.preventDefault());
document.addEventListener('pointerdown', (event) => {
    if (!onPicture(event) || event.button) return;
    event.preventDefault();
    open(null);
    start = place(event);
});
document.addEventListener('pointermove', (event) => {
    if (!start) return;
    const [x, y] = place(event);
    shape = [Math.min(x, start[0]), Math.min(y, start[1]), Math.max(x, start[0]), Math.max(y, start[1])];
    draw();
});
document.addEventListener('pointerup', () => {
    if (!start) return;
    const part = shape;
    clear();
    if (part && part[2] - part[0] > .03 && part[3] - part[1] > .03) trigger('select', {part});
});
document.addEventListener('pointercancel', clear);

// With the keys: a box that has the focus. Arrows move it, with Shift they move its right and lower edge.
const STEP = .05;
const ways = {ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP]};
const say = () => {
    const [left, top, right, bottom] = shape.map((value) => Math.round(100 * value));
    box.firstChild.textContent = `From ${left} to ${right} percent across, from ${top} to ${bottom} percent down`;
    draw();
};
const move = ([right, down], edges) => {
    let [x, y] = [right, down];
    if (!edges) {
        x = Math.min(Math.max(x, -shape[0]), 1 - shape[2]);
        y = Math.min(Math.max(y, -shape[1]), 1 - shape[3]);
        shape = [shape[0] + x, shape[1] + y, shape[2] + x, shape[3] + y];
    } else {
        const edge = (low, high) => Math.min(1, Math.max(low + STEP, high));
        shape = [shape[0], shape[1], edge(shape[0], shape[2] + x), edge(shape[1], shape[3] + y)];
    }
    say();
};
let focusAgain = false;
const openWithKeys = () => {
    if (!picture()) return;
    open([.25, .25, .75, .75]);
    box.append(document.createElement('span'));
    box.firstChild.setAttribute('aria-live', 'polite');
    box.tabIndex = 0;
    box.setAttribute('role', 'application');
    box.setAttribute('aria-label', 'Box on the picture. Arrow keys move it, with Shift they resize it, '
        + 'Enter searches for this part, Escape leaves.');
    box.addEventListener('blur', clear);
    box.addEventListener('keydown', (event) => {
        if (event.key in ways) {
            event.preventDefault();
            move(ways[event.key], event.shiftKey);
        } else if (event.key === 'Enter') {
            event.preventDefault();
            const part = shape;
            focusAgain = true;
            clear();
            trigger('select', {part});
        } else if (event.key === 'Escape') {
            clear();
            element.querySelector('[data-keys]')?.focus();
        }
    });
    picture().scrollIntoView({block: 'nearest'});
    box.focus({preventScroll: true});
    say();
};
for (const event of ['scroll', 'resize']) window.addEventListener(event, draw, {passive: true, capture: true});
document.addEventListener('keydown', (event) => event.key === 'Escape' && start && clear());
element.addEventListener('click', (event) => {
    const button = event.target.closest('button');
    if (button) 'keys' in button.dataset ? openWithKeys() : trigger('click');
});
// What was asked for with the keys puts the focus on the way back.
new MutationObserver(() => {
    const button = focusAgain && element.querySelector('.part button');
    if (button) [focusAgain] = [false, button.focus()];
}).observe(element, {childList: true, subtree: true});
