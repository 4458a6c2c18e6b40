local ffi = require 'ffi'
local lu = require 'luaunit'
local fs = require 'vestige.fs'

ffi.cdef [[
unsigned int geteuid(void);
int seteuid(unsigned int);
]]

local T = {}

local root

function T.setUp()
  root = os.tmpname()
  os.remove(root)
  fs.mkdir(root)
end

function T.tearDown()
  os.execute("rm -rf '" .. root .. "'")
end

local function message_of(...)
  local ok, err = pcall(...)
  lu.assertFalse(ok)
  return err
end

function T.test_folders()
  fs.mkdir(root .. '/a/b/c')
  fs.mkdir(root .. '/a/b/c/')
  lu.assertEquals(fs.stat(root .. '/a/b/c').kind, 'folder')
  lu.assertEquals(fs.list(root .. '/a'), { 'b' })
  fs.write(root .. '/file', 'x')
  lu.assertStrContains(message_of(fs.mkdir, root .. '/file'), 'File exists')
  lu.assertStrContains(message_of(fs.mkdir, root .. '/file/below'), 'Not a directory')
  lu.assertStrContains(message_of(fs.list, root .. '/none'), 'cannot list ' .. root .. '/none')
end

function T.test_write_replaces_and_leaves_nothing_beside()
  local path = root .. '/r.json'
  fs.write(path, ('old'):rep(100000))
  fs.write(path, 'new')
  lu.assertEquals(fs.read(path), 'new')
  lu.assertEquals(fs.list(root), { 'r.json' })
  lu.assertEquals(fs.stat(path).size, 3)
  lu.assertTrue(math.abs(fs.stat(path).mtime - fs.now()) < 60)
end

function T.test_a_failed_write_keeps_the_old_content()
  local path = root .. '/r.json'
  fs.write(path, 'old')
  lu.assertStrContains(message_of(fs.replace, path, function(name)
    fs.append(name, 'half')
    error('stopped here')
  end), 'stopped here')
  lu.assertEquals(fs.read(path), 'old')
  lu.assertEquals(fs.list(root), { 'r.json' })
end

function T.test_missing()
  lu.assertNil(fs.stat(root .. '/none'))
  lu.assertFalse(fs.exists(root .. '/none'))
  fs.remove(root .. '/none')
  local message = message_of(fs.read, root .. '/none')
  lu.assertStrContains(message, 'cannot read ' .. root .. '/none: No such file or directory')
  message = message_of(fs.write, root .. '/none/file', 'x')
  lu.assertStrContains(message, 'cannot write ' .. root .. '/none/file: No such file or directory')
end

function T.test_unwritable_folder()
  os.execute("chmod 555 '" .. root .. "'")
  local was = ffi.C.geteuid()
  if was == 0 then lu.assertEquals(ffi.C.seteuid(65534), 0) end
  local ok, err = pcall(fs.write, root .. '/x', 'x')
  local made, why = pcall(fs.mkdir, root .. '/d/e')
  if was == 0 then ffi.C.seteuid(0) end
  lu.assertFalse(ok)
  lu.assertStrContains(err, 'cannot write ' .. root .. '/x: Permission denied')
  lu.assertFalse(made)
  lu.assertStrContains(why, 'Permission denied')
end

function T.test_disk_full()
  lu.assertStrContains(message_of(fs.append, '/dev/full', 'x'), 'No space left on device')
  if os.execute(("mount -t tmpfs -o size=64k tmpfs '%s' 2>/dev/null"):format(root)) ~= 0 then
    print('\n# a full disk is tried only through /dev/full: a tmpfs cannot be mounted here')
    return
  end
  local path = root .. '/r.json'
  fs.write(path, 'old')
  local ok, err = pcall(fs.write, path, ('x'):rep(200000))
  local content, names = fs.read(path), fs.list(root)
  os.execute(("umount '%s'"):format(root))
  lu.assertFalse(ok)
  lu.assertStrContains(err, 'cannot write ' .. path .. ': No space left on device')
  lu.assertEquals(content, 'old')
  lu.assertEquals(names, { 'r.json' })
end

function T.test_remove_tree_stays_below_its_root()
  fs.mkdir(root .. '/runs/a/b')
  fs.mkdir(root .. '/kept')
  fs.write(root .. '/kept/file', 'x')
  os.execute(("ln -s '%s/kept' '%s/runs/a/link'"):format(root, root))
  local runs = root .. '/runs'
  local outside = { runs, root, root .. '/kept', runs .. '/..', runs .. '/a/../../kept', '/' }
  for _, path in ipairs(outside) do
    lu.assertStrContains(message_of(fs.remove_tree, path, runs), 'will not remove')
  end
  fs.remove_tree(runs .. '/a', runs)
  lu.assertEquals(fs.list(runs), {})
  lu.assertEquals(fs.read(root .. '/kept/file'), 'x')
  fs.remove_tree(runs .. '/a', runs)
end

function T.test_a_lock_is_exclusive()
  local path = root .. '/.lock'
  local lock = fs.lock(path)
  lu.assertNil(fs.lock(path, { wait = false }))
  local asked
  lu.assertStrContains(message_of(fs.lock, path, {
    on_wait = function(_, holder)
      asked = holder
      error('enough')
    end,
  }), 'enough')
  lu.assertStrMatches(asked, 'pid %d+ on .+')
  lock:release()
  fs.lock(path, { wait = false }):release()
end

function T.test_a_lock_whose_file_was_removed_meanwhile_is_made_again()
  fs.mkdir(root .. '/stage')
  local path = root .. '/stage/.lock'
  local held = fs.lock(path)
  local lock = fs.lock(path, { on_wait = function()
    if not held then return end
    fs.remove_tree(root .. '/stage', root)
    held:release()
    held = nil
  end })
  lu.assertTrue(fs.exists(path))
  lu.assertNil(fs.lock(path, { wait = false }))
  lock:release()
end

function T.test_a_killed_process_releases_its_lock()
  local path = root .. '/.lock'
  local script = ("echo $$; exec luajit -e 'package.path=[[%s]]; local fs = require[[vestige.fs]]; "
    .. "fs.lock[[%s]]; io.stdout:write[[held]]; io.stdout:flush(); fs.sleep(60)'")
    :format(package.path, path)
  local child = io.popen(script)
  local pid = child:read('*l')
  lu.assertEquals(child:read(4), 'held')
  lu.assertNil(fs.lock(path, { wait = false }))
  os.execute('kill -9 ' .. pid)
  local lock = fs.lock(path)
  lock:release()
  child:close()
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'fs', T } })
