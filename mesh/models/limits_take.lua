-- Takes from all of a call's buckets and slots, or from none; returns 0, or the milliseconds until it can succeed.
-- A bucket is one number, the instant (ms) at which it will be full again (GCRA's theoretical arrival time).
-- KEYS: buckets, then sets of running calls by the instant at which their slot comes back.
-- ARGV: count of buckets, call id, lease of a slot (ms), wait for a slot (ms);
--       a bucket: ms that what is taken needs to grow again, ms that the whole needs; a set: how many calls it may have.
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local buckets, call, lease, slot_wait = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local wait, full_at = 0, {}
for i = 1, buckets do
  local taken, whole = tonumber(ARGV[3 + 2 * i]), tonumber(ARGV[4 + 2 * i])
  local due = math.max(tonumber(redis.call('GET', KEYS[i]) or 0), now)
  -- What is more than the whole bucket is let through by a full one, which then owes.
  wait = math.max(wait, due - now - (whole - math.min(taken, whole)))
  full_at[i] = due + taken
end
for i = buckets + 1, #KEYS do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
  if redis.call('ZCARD', KEYS[i]) >= tonumber(ARGV[4 + buckets + i]) then
    wait = math.max(wait, slot_wait)
  end
end
if wait >= 1 then -- less is rounding
  return math.ceil(wait)
end
for i = 1, buckets do
  redis.call('SET', KEYS[i], string.format('%.3f', full_at[i]), 'PXAT', string.format('%d', math.ceil(full_at[i])))
end
for i = buckets + 1, #KEYS do
  redis.call('ZADD', KEYS[i], now + lease, call)
end
return 0
