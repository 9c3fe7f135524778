// What HTML cannot do by itself: the token, going from screen to screen, what happens live, keys.
// Everything that is shown is rendered by the relay (/page/…) and swapped in by htmx.
const $ = (selector, from = document) => from.querySelector(selector)
const screen = $('#screen')
const live = $('#live')
const tokenForm = $('#token-form')
const tabs = new BroadcastChannel('otlp-relay')
const seen = new Set()  // ids that came while somebody was reading further down
const charts = new WeakMap()
const LISTS = /^\/(traces|logs|metrics-view)$/
let token = ''
let isPaused = false
let isDue = false
let lostAt = null
let wanted = -1  // the span that "next match" goes to
// -- the token: from the address, this tab, another tab, or a person
tabs.onmessage = ({data}) => {
  if (data.ask && token) tabs.postMessage({token})
  else if (data.token && !token) begin(data.token)
}
function begin(found) {
  token = found
  sessionStorage.setItem('token', found)
  tokenForm.hidden = true
  show()
  listen()
}
function askForToken(words) {
  token = ''
  sessionStorage.removeItem('token')
  screen.replaceChildren(tokenForm)
  tokenForm.hidden = false
  $('#link').textContent = 'no token'
  notice(words)
  $('#token').focus()
}
tokenForm.addEventListener('submit', event => {
  event.preventDefault()
  notice('')
  begin($('#token').value.trim())
  $('#token').value = ''
})
// -- screens
const searchFor = q => q && '?' + new URLSearchParams({q})
const onScreen = () => $('[data-on]', screen)
async function show(isSame = false) {
  if (!token) return
  isDue = false
  const path = location.pathname === '/' ? '/flow' : location.pathname
  const swap = isSame ? 'innerMorph' : 'innerHTML'
  await htmx.ajax('GET', '/page' + path + location.search, {source: screen, target: screen, swap})
  if (isSame) return
  seen.clear()
  $('#new').hidden = true
  scrollTo(0, 0)
}
function go(address) {
  history.pushState(null, '', address)
  notice('')
  return show().then(() => screen.focus({preventScroll: true}))
}
addEventListener('popstate', () => show())
document.addEventListener('click', event => {
  const link = event.target.closest('a[href]')
  const isPlain = !(event.ctrlKey || event.metaKey || event.shiftKey || event.button)
  if (link && isPlain && link.origin === location.origin && !link.getAttribute('href').startsWith('#')) {
    event.preventDefault()
    go(link.href)
  }
  const {copy, fold: way, next} = event.target.closest('button')?.dataset ?? {}
  if (copy) navigator.clipboard?.writeText(copy).then(() => say('copied'))
  if (way) fold(way === 'close')
  if (next !== undefined) nextMatch()
})
document.addEventListener('submit', event => {
  const form = event.target
  if (form.getAttribute('role') !== 'search') return
  event.preventDefault()
  const isElsewhere = form.id === 'search' && !LISTS.test(location.pathname)
  go((isElsewhere ? '/traces' : location.pathname) + searchFor(form.elements.q.value.trim()))
})
document.addEventListener('htmx:after:swap', () => {
  const title = onScreen()?.dataset.title
  if (title) document.title = `${title} · otlp-relay`
  for (const link of document.querySelectorAll('nav a')) {
    const [, first] = link.pathname.split('/')
    link.ariaCurrent = location.pathname.split('/')[1] === first ? 'page' : null
  }
  const q = new URLSearchParams(location.search).get('q') ?? ''
  if (LISTS.test(location.pathname) && !$('#q:focus')) $('#q').value = q
  for (const each of screen.querySelectorAll('time')) {
    const at = new Date(each.dateTime)
    const isToday = at.toDateString() === new Date().toDateString()
    each.textContent = isToday ? at.toLocaleTimeString() : at.toLocaleString()
  }
  screen.querySelectorAll('[data-chart]').forEach(chart)
})
// -- requests
document.addEventListener('htmx:config:request', ({target, detail}) => {
  detail.ctx.request.headers.Authorization = `Bearer ${token}`
  if ('steps' in target.dataset) $('#steps').replaceChildren()
})
document.addEventListener('htmx:before:request', ({detail: {ctx}}) => {
  if (!('json' in ctx.sourceElement.dataset)) return
  const body = {headers: {}}
  for (const [name, value] of new FormData(ctx.sourceElement)) {
    const [, header] = name.split('header:')
    if (value) (header ? body.headers : body)[header ?? name] = value
  }
  ctx.request.body = JSON.stringify(body)
  ctx.request.headers['Content-Type'] = 'application/json'
})
// Answers of the API are JSON: what a button did, or why something cannot be shown.
document.addEventListener('htmx:after:request', event => {
  const {ctx} = event.detail
  if (!ctx.response.headers.get('content-type')?.includes('json')) return
  event.preventDefault()
  const found = JSON.parse(ctx.text)
  if (ctx.response.status === 401) askForToken('That token is not the one of this relay.')
  else if (found.error) {
    notice(found.error)
    if (ctx.sourceElement === screen && ctx.swap === 'innerHTML') screen.replaceChildren()
  } else if (found.next) {  // dead letters are replayed and discarded a step at a time
    const address = `${ctx.request.action.split('&after=')[0]}&after=${found.next}`
    htmx.ajax(ctx.request.method, address, {source: ctx.sourceElement, swap: 'none'})
  } else {
    say(ctx.sourceElement.dataset.done ?? 'done')
    show(true)
  }
})
document.addEventListener('htmx:confirm', event => {
  const {ctx, issueRequest, dropRequest} = event.detail
  const dialog = $('#ask')
  event.preventDefault()
  $('#ask-text').textContent = ctx.confirm
  dialog.returnValue = 'no'
  dialog.onclose = () => dialog.returnValue === 'yes' ? issueRequest() : dropRequest()
  dialog.showModal()
})
// -- what happens
function listen() {
  if (!live._htmx) htmx.process(live)  // htmx may have begun before its extension was there
  if (token && !document.hidden && !live._htmx?.sse) htmx.trigger(live, 'listen')
}
const say = words => { $('#said').textContent = words }
function notice(words) {
  $('#notice').textContent = words
  $('#notice').hidden = !words
}
document.addEventListener('htmx:sse:error', () => {
  lostAt ??= new Date().toLocaleTimeString()
  $('#link').textContent = `not reachable since ${lostAt}`
  $('#link').classList.add('lost')
})
live.addEventListener('htmx:sse:after:connection', () => {
  if (lostAt) show(true)
  lostAt = null
  $('#link').textContent = 'live'
  $('#link').classList.remove('lost')
})
for (const name of ['arrived', 'backlog', 'destination', 'rejected', 'refused', 'buffer']) {
  live.addEventListener(name, ({detail}) => {
    const data = JSON.parse(detail.data)
    if (name === 'destination') say(`${data.name}, ${data.signal}: ${data.state} ${data.status || ''}`)
    happened(name, data)
  })
}
function happened(name, data) {
  const {on, trace, spans, rows, new: what} = onScreen()?.dataset ?? {}
  if (!on || (trace && name === 'arrived' && !data.trace_ids.includes(trace))) return
  const isReading = what && (scrollY > 80 || new URLSearchParams(location.search).has('cursor'))
  if (name === 'arrived' && (isReading || isPaused || +spans > +rows)) {
    for (const id of data.trace_ids) if (!document.getElementById(`t-${id}`)) seen.add(id)
    $('#new').textContent = `${what === 'traces' ? seen.size : 'more is'} new ▲`
    $('#new').hidden = what === 'traces' && !seen.size
  } else if (!isReading && !isPaused && on.split(' ').includes(name)) isDue = true
}
setInterval(listen, 2000)
setInterval(() => happened('tick'), 5000)  // rates fall though nothing happens
// Once a second at most, and not while somebody fills in something there.
setInterval(() => isDue && !document.hidden && !$('#screen input:focus') && show(true), 1000)
$('#new').addEventListener('click', () => go(location.pathname + searchFor($('#q').value)))
$('#pause').addEventListener('click', () => {
  isPaused = !isPaused
  $('#pause').setAttribute('aria-pressed', isPaused)
  if (!isPaused) show(true)
})
// A test tells each step as it happens; so does adding a destination.
for (const name of ['step', 'done', 'failed']) {
  document.addEventListener(name, ({target, detail}) => {
    if (!target.matches?.('[data-steps]')) return
    const {test, error, saved, blocked, hint, ...data} = JSON.parse(detail.data)
    const {passed, wrong, remedy} = test ?? data
    const line = document.createElement('li')
    line.className = name === 'step' ? data.state : passed ? 'ok' : 'failed'
    line.textContent = name === 'step'
      ? `${data.signal} ${data.name} ${data.state} (${Math.round(data.seconds * 1000)} ms) ${data.found}`
      : error ?? (!passed ? `failed: ${wrong} ${remedy}` : saved ? `saved in ${saved} ${blocked} ${hint}` : 'passed')
    $('#steps').append(line)
  })
}
// -- a trace, a chart, keys
const fold = isClosed => $('#tree').classList.toggle('folded', isClosed)
function nextMatch() {
  const {matches, rows} = onScreen().dataset
  const numbers = matches ? matches.split(',').map(Number) : []
  if (!numbers.length) return
  wanted = numbers.find(each => each > wanted) ?? numbers[0]
  const find = () => $(`#n-${wanted}`)
  const mark = () => {
    fold(false)
    $('#tree .here')?.classList.remove('here')
    find()?.classList.add('here')
    find()?.scrollIntoView({block: 'center'})
    $('summary', find() ?? screen)?.focus({preventScroll: true})
  }
  if (find()) return mark()
  const asked = new URLSearchParams(location.search)
  asked.set('first', Math.floor(wanted / rows) * rows)
  go(`?${asked}`).then(mark)
}
function chart(figure) {
  const {step, ...lines} = JSON.parse(figure.dataset.chart)
  const keys = [...figure.querySelectorAll('b')]
  const {length} = lines.delivered
  if (length < 2) return
  const times = lines.delivered.map((_, at) => Date.now() / 1000 - (length - 1 - at) * step)
  const data = [times, ...keys.map(key => lines[key.textContent])]
  if (charts.has(figure)) return charts.get(figure).setData(data)
  const {color: stroke, borderColor} = getComputedStyle(figure)
  const axis = {stroke, grid: {stroke: borderColor}}
  const series = keys.map((key, at) => ({stroke: getComputedStyle(key).color, dash: at ? [6, 3 * at] : []}))
  const looks = {axes: [axis, axis], series: [{}, ...series], cursor: {show: false}, legend: {show: false}}
  charts.set(figure, new uPlot({width: Math.max(figure.clientWidth - 8, 200), height: 160, ...looks}, data, figure))
}
document.addEventListener('keydown', event => {
  if (event.target.matches('input') || event.ctrlKey || event.metaKey || event.altKey) return
  if (event.key === '/') return event.preventDefault() ?? $('#q').focus()
  const step = {j: 1, k: -1}[event.key]
  const rows = step ? [...screen.querySelectorAll('[data-row] a, #tree > li > details > summary')] : []
  rows[Math.max(rows.indexOf(document.activeElement) + step, 0)]?.focus()
})
setTimeout(() => {  // once htmx has begun, which waits for the document in the same way
  const given = new URLSearchParams(location.hash.slice(1)).get('token')
  const kept = given ?? sessionStorage.getItem('token')
  if (given) history.replaceState(null, '', location.pathname + location.search)
  if (kept) return begin(kept)
  tabs.postMessage({ask: true})
  setTimeout(() => token || askForToken(''), 300)
})
