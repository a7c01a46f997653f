-- Transfers of 1.00 between wallets of a file, each under an idempotency key of its own, for `bench/load.py`.
-- Arguments: the file (id, number and token in a line), a seed, the beginning of the keys, how many of the file's first
-- wallets send, and how many of them receive. In the end one line of JSON, after wrk's own report.

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
  thread:set("number", #threads)
end

function init(args)
  local sender_most, receiver_most = tonumber(args[4]), tonumber(args[5])
  created, others, sample = 0, "", ""
  heads, ids, bodies, senders, receivers, sent = {}, {}, {}, 0, 0, 0
  counts = {}
  key = string.format("%s-%d-", args[3], number)
  -- Threads that shared a seed would send the same pairs.
  math.randomseed(tonumber(args[2]) * 1000 + number)
  for line in io.lines(args[1]) do
    local id, wallet_number, token = line:match("^(%d+)\t(%d+)\t(%S+)$")
    if senders < sender_most then
      senders = senders + 1
      heads[senders] = "POST /users/wallets/" .. id .. "/transfer/ HTTP/1.1\r\nHost: " .. wrk.host
        .. "\r\nContent-Type: application/json\r\nAuthorization: Bearer " .. token .. "\r\nIdempotency-Key: " .. key
    end
    if receivers < receiver_most then
      receivers = receivers + 1
      local body = '{"wallet_number":"' .. wallet_number .. '","amount":"1.00"}'
      bodies[receivers] = "\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
    end
  end
end

function request()
  local from, to = math.random(senders), math.random(receivers)
  while from == to do
    from, to = math.random(senders), math.random(receivers)
  end
  sent = sent + 1
  return heads[from] .. string.format("%08d", sent) .. bodies[to]
end

function response(status, headers, body)
  if status == 201 then
    created = created + 1
    return
  end
  counts[status] = (counts[status] or 0) + 1
  if sample == "" then sample = body end
  -- As text, since wrk hands tables from thread to thread with keys and values exchanged.
  others = ""
  for each, count in pairs(counts) do others = others .. each .. " " .. count .. "\n" end
end

local function quoted(text)
  return '"' .. text:gsub('[%c"\\\128-\255]', function(c) return string.format("\\u%04x", c:byte()) end) .. '"'
end

function done(summary, latency)
  local statuses, first = { ["201"] = 0 }, ""
  for _, thread in ipairs(threads) do
    statuses["201"] = statuses["201"] + thread:get("created")
    for status, count in thread:get("others"):gmatch("(%d+) (%d+)") do
      statuses[status] = (statuses[status] or 0) + tonumber(count)
    end
    if first == "" then first = thread:get("sample") end
  end
  local pairs_of_json = {}
  for status, count in pairs(statuses) do
    pairs_of_json[#pairs_of_json + 1] = string.format('"%s":%d', status, count)
  end
  local errors = summary.errors
  io.write(string.format(
    '\n{"seconds":%.6f,"statuses":{%s},"broken":%d,"late":%d,"p50_ms":%.3f,"p90_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f,"sample":%s}\n',
    summary.duration / 1e6, table.concat(pairs_of_json, ","), errors.connect + errors.read + errors.write, errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    quoted(first)))
end
