--- Readers of data sets: CIFAR-10's binary files, IDX files, folders of images by class, CSV.
-- Each returns {train = {x=, y=}, test = {x=, y=} or nil, classes = {names}, kind = 'cifar10'}:
-- x images as u8 N,H,W,C (or numbers as f32 N,D), y labels as i64 N, counted from 0; class y is
-- classes[y + 1]. open(dir) finds out which reader fits.
local ffi = require 'ffi'
local base = require 'vestige.ffi'
local files = require 'vestige.io'
local fs = require 'vestige.fs'
local nearest = require 'vestige.nearest'
local tensor = require 'vestige.tensor'
local C, raise = base.C, base.raise

local M = {}

local CIFAR10 = { 'airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship',
                  'truck' }
local FASHION = { 't-shirt', 'trouser', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker',
                  'bag', 'ankle boot' }
local FASHION_FOLDER = '/usr/share/datasets/fashion-mnist' -- where Debian's package puts it

local function join(dir, name)
  return dir:sub(-1) == '/' and dir .. name or dir .. '/' .. name
end

-- The set of names in a folder, and the sorted list; nil when it is none that can be listed.
local function names_in(dir)
  local ok, list = pcall(fs.list, dir)
  if not ok then return nil end
  local set = {}
  for _, name in ipairs(list) do set[name] = true end
  return set, list
end

local function matching(list, pattern)
  local found = {}
  for _, name in ipairs(list or {}) do
    if name:find(pattern) then found[#found + 1] = name end
  end
  return found
end

local function labels_tensor(list)
  local data = ffi.new('int64_t[?]', math.max(#list, 1), list)
  return tensor.from_data(data, { #list }, 'i64')
end

-- The names '0' to the largest label.
local function numbered(...)
  local top = 0
  for i = 1, select('#', ...) do
    local part = select(i, ...)
    if part then
      local data, n = part.y:data()
      for j = 0, n - 1 do
        local v = tonumber(data[j])
        if v > top then top = v end
      end
    end
  end
  if top > 9999 then return nil end
  local names = {}
  for v = 0, top do names[v + 1] = tostring(v) end
  return names
end

-- ---- CIFAR-10 ----
local function cifar_part(dir, names)
  local paths = {}
  for i, name in ipairs(names) do paths[i] = dir and join(dir, name) or name end
  local list = files.c_strings(paths)
  local x, y = files.two(function(a, b) return C.vestige_cifar_read(a, b, #paths, list) end)
  return { x = x, y = y }
end

-- The folder that holds the batches: dir itself or the one that the archive makes.
local function cifar_folder(dir)
  for _, folder in ipairs { dir, join(dir, 'cifar-10-batches-bin') } do
    local _, list = names_in(folder)
    local train = matching(list, '^data_batch_.*%.bin$')
    if #train > 0 then return folder, train, matching(list, '^test_batch%.bin$') end
  end
end

--- readers.cifar10(dir): CIFAR-10 from its binary files.
-- dir holds data_batch_*.bin (train) and, when it is there, test_batch.bin (test), or the folder
-- cifar-10-batches-bin that does; each file may have any number of records. dir may also be one
-- such file, its name ending in .bin: then it is all train.
-- @example
-- > local readers = require 'vestige.data.readers'
-- > local ok, message = pcall(readers.cifar10, '/nowhere')
-- > assert(not ok and message:find('cannot list /nowhere: ', 1, true))
function M.cifar10(dir)
  files.check_path('cifar10', dir)
  if not names_in(dir) and dir:find '%.bin$' then
    return { train = cifar_part(nil, { dir }), classes = CIFAR10, kind = 'cifar10' }
  end
  local folder, train, test = cifar_folder(dir)
  if not folder then
    fs.list(dir) -- raises when dir cannot be listed at all
    raise(('%s: no data_batch_*.bin here or in cifar-10-batches-bin'):format(dir))
  end
  return { train = cifar_part(folder, train), test = test[1] and cifar_part(folder, test),
           classes = CIFAR10, kind = 'cifar10' }
end

-- ---- IDX ----
local function idx_read(path)
  files.check_path('idx', path)
  return files.one(function(h) return C.vestige_idx_read(h, path) end)
end

local function idx_part(images, labels)
  local x, y = idx_read(images), idx_read(labels)
  local shape, dtype = x:shape(), y:dtype()
  if #shape == 3 then
    x = x:reshape { shape[1], shape[2], shape[3], 1 }
  elseif #shape ~= 4 then
    raise(('%s: dimensions: images have 3 or 4, got %d'):format(images, #shape))
  end
  if y:dim() ~= 1 then
    raise(('%s: dimensions: labels have 1, got %d'):format(labels, y:dim()))
  elseif dtype ~= 'u8' and dtype ~= 'i32' then
    raise(('%s: type: labels are whole numbers, got %s'):format(labels, dtype))
  elseif #y ~= #x then
    raise(('%s: %d labels, but %s has %d images'):format(labels, #y, images, #x))
  elseif #y == 0 then
    raise(images .. ': no images')
  end
  local data, n = y:data()
  for i = 0, n - 1 do
    if data[i] < 0 then
      raise(('%s: label %d is negative: %d'):format(labels, i + 1, data[i]))
    end
  end
  return { x = x, y = y:to 'i64' }
end

--- readers.idx(images, labels, test_images, test_labels): a data set from IDX files, gzipped or
-- not. Images with dimensions N,H,W become N,H,W,1. The last two files may be absent.
function M.idx(images, labels, test_images, test_labels)
  local train = idx_part(images, labels)
  local test = test_images and idx_part(test_images, test_labels)
  return { train = train, test = test, classes = numbered(train, test), kind = 'idx' }
end

-- MNIST's four names, with or without .gz, '-' or '.' before idx; nil without the training images.
local function mnist_files(dir, set)
  local function find(stem, dims)
    for _, dot in ipairs { '-', '.' } do
      for _, gz in ipairs { '', '.gz' } do
        local name = ('%s%sidx%d-ubyte%s'):format(stem, dot, dims, gz)
        if set[name] then return join(dir, name) end
      end
    end
  end
  local images, labels = find('train-images', 3), find('train-labels', 1)
  if not images or not labels then return nil end
  local test_images, test_labels = find('t10k-images', 3), find('t10k-labels', 1)
  if not test_labels then test_images = nil end
  return images, labels, test_images, test_labels
end

local function mnist_folder(dir, set)
  local images, labels, test_images, test_labels = mnist_files(dir, set)
  return images and M.idx(images, labels, test_images, test_labels)
end

--- readers.fashion_mnist(dir): Fashion-MNIST, 60,000 train and 10,000 test images of 28 x 28.
-- dir: a folder with its four IDX files; by default where Debian's package dataset-fashion-mnist
-- installs them.
function M.fashion_mnist(dir)
  local folder = dir or FASHION_FOLDER
  files.check_path('fashion_mnist', folder)
  local set = names_in(folder)
  local data = set and mnist_folder(folder, set)
  if not data then
    local hint = "; install Debian's package dataset-fashion-mnist or name a folder"
    raise(("%s: no train-images-idx3-ubyte(.gz) and train-labels-idx1-ubyte(.gz) here%s"):format(
          folder, dir and '' or hint))
  end
  data.classes, data.kind = FASHION, 'fashion_mnist'
  return data
end

-- ---- Folders of images ----
local function is_image(name)
  local ending = name:lower():match '%.(%w+)$'
  return ending == 'png' or ending == 'jpg' or ending == 'jpeg'
end

-- The paths of the images in a folder.
local function images_in(dir)
  local _, list = names_in(dir)
  local images = {}
  for _, name in ipairs(list or {}) do
    if is_image(name) and name:sub(1, 1) ~= '.' then images[#images + 1] = join(dir, name) end
  end
  return images
end

-- The folders in dir that hold images, as {name=, files=}, and the names of those that do not.
local function image_classes(dir)
  local _, list = names_in(dir)
  local with, without = {}, {}
  for _, name in ipairs(list or {}) do
    if name:sub(1, 1) ~= '.' and not is_image(name) then
      local stat = fs.stat(join(dir, name), true)
      local images = stat and stat.kind == 'folder' and images_in(join(dir, name)) or nil
      if images and #images > 0 then
        with[#with + 1] = { name = name, files = images }
      elseif images then
        without[#without + 1] = name
      end
    end
  end
  return with, without
end

-- The parts of an image folder: its classes of train (or of all) and of test, or nil.
local function image_parts(dir)
  local train, empty = image_classes(join(dir, 'train'))
  if #train == 0 then
    local all, without = image_classes(dir)
    return #all > 0 and { train = { dir, all, without } } or nil
  end
  local parts = { train = { join(dir, 'train'), train, empty } }
  for _, name in ipairs { 'test', 'val' } do
    local classes, without = image_classes(join(dir, name))
    if #classes > 0 then
      parts.test = { join(dir, name), classes, without }
      break
    end
  end
  return parts
end

local function image_part(part, number, options)
  local dir, classes, without = part[1], part[2], part[3]
  if #without > 0 then
    raise(("%s: class '%s' holds no PNG or JPEG file"):format(dir, without[1]))
  end
  local paths, labels = {}, {}
  for _, class in ipairs(classes) do
    if not number[class.name] then
      raise(("%s: class '%s' is not among the training classes"):format(dir, class.name))
    end
    for _, path in ipairs(class.files) do
      paths[#paths + 1], labels[#labels + 1] = path, number[class.name]
    end
  end
  local x = require('vestige.image').load_all(paths, options)
  return { x = x, y = labels_tensor(labels) }
end

--- readers.image_folder(dir, options): images in a folder for each class, or dir/train and dir/test
-- (or dir/val) with such folders.
-- A class is a sub-folder; classes are sorted by name, and so are the PNG and JPEG files in them.
-- All images have one size and number of channels. Options: channels (1 to 4, default: as the first
-- image has), workers (threads that decode, default one a core).
function M.image_folder(dir, options)
  files.check_path('image_folder', dir)
  options = files.check_options('image_folder', options, { channels = true, workers = true })
  local parts = image_parts(dir)
  if not parts then
    fs.list(dir)
    raise(('%s: no folder of PNG or JPEG files for each class, here or in train'):format(dir))
  end
  local names, number = {}, {}
  for i, class in ipairs(parts.train[2]) do
    names[i], number[class.name] = class.name, i - 1
  end
  local train = image_part(parts.train, number, options)
  local test = parts.test and image_part(parts.test, number, options)
  if test then
    local a, b = train.x:shape(), test.x:shape()
    for d = 2, 4 do
      if a[d] ~= b[d] then
        raise(('%s: images are %d x %d x %d, but those of %s are %d x %d x %d'):format(
              parts.test[1], b[2], b[3], b[4], parts.train[1], a[2], a[3], a[4]))
      end
    end
  end
  return { train = train, test = test, classes = names, kind = 'image_folder' }
end

-- ---- CSV ----
local HEADER = { [true] = 1, [false] = 0 }
local LABELS = { 'label', 'class', 'target', 'y' }

local function csv_read(path, options)
  files.check_path('csv', path)
  local header = options.header
  if header ~= nil and HEADER[header] == nil then
    raise('csv: option header: expected true or false, got ' .. tostring(header))
  end
  local separator = options.separator or ','
  if type(separator) ~= 'string' or #separator ~= 1 then
    raise('csv: option separator: expected one character, got ' .. tostring(separator))
  end
  local x, names = files.two(function(a, b)
    return C.vestige_csv_read(a, b, path, HEADER[header] or -1, separator:byte())
  end)
  return x, files.split_zero(names)
end

-- The number of the label's column, or nil.
local function label_column(path, label, names, columns)
  if label == nil then return nil end
  if type(label) == 'number' then
    local i = label < 0 and label + columns + 1 or label
    if i % 1 ~= 0 or i < 1 or i > columns then
      raise(('%s: option label: column %s: the file has %d'):format(path, label, columns))
    end
    return i
  end
  for i, name in ipairs(names) do
    if name == label then return i end
  end
  raise(("%s: option label: no column '%s'%s"):format(path, tostring(label),
        #names == 0 and ': the file has no header' or nearest.hint(tostring(label), names)))
end

-- The values of one column as y, the others as x.
local function split_column(path, values, rows, columns, at)
  local x, y = ffi.new('float[?]', math.max(rows * (columns - 1), 1)), ffi.new('int64_t[?]', rows)
  local k = 0
  for r = 0, rows - 1 do
    for c = 0, columns - 1 do
      local v = values[r * columns + c]
      if c ~= at - 1 then
        x[k] = v
        k = k + 1
      elseif v % 1 ~= 0 or v < 0 or v > 2^53 then
        raise(('%s: row %d, column %d: expected a label (0, 1, ...), got %s'):format(path, r + 1,
              at, tostring(v)))
      else
        y[r] = v
      end
    end
  end
  return { x = tensor.from_data(x, { rows, columns - 1 }, 'f32'),
           y = tensor.from_data(y, { rows }, 'i64') }
end

local function csv_part(path, options)
  local table_, names = csv_read(path, options)
  local shape = table_:shape()
  local at = label_column(path, options.label, names, shape[2])
  if not at then return { x = table_:to 'f32' }, names end
  local part = split_column(path, table_:data(), shape[1], shape[2], at)
  if names[1] then table.remove(names, at) end
  return part, names
end

--- readers.csv(path, options): numbers from a CSV file.
-- The result's train.x is f32 N,D; columns lists their names when the file has a header.
-- Options: label (the name or number of the column, from 1 or -1 for the last, that holds the
-- labels: it becomes train.y and leaves x; without it there is no y), header (true or false; by
-- default the first line is one when none of its fields is a number), separator (default ','), test
-- (the path of another file for the test part).
-- @example
-- > local path = os.tmpname()
-- > local file = assert(io.open(path, 'w'))
-- > file:write 'height,width,label\n1,2,0\n3,4,1\n'
-- > file:close()
-- > local data = require('vestige.data.readers').csv(path, {label = 'label'})
-- > assert(data.train.x:sum():item() == 10 and data.columns[2] == 'width')
-- > os.remove(path)
function M.csv(path, options)
  options = files.check_options('csv', options, { label = true, header = true, separator = true,
                                                  test = true })
  local train, names = csv_part(path, options)
  local test = options.test and csv_part(options.test, options)
  if test and test.x:size(2) ~= train.x:size(2) then
    raise(('%s: %d columns, but %s has %d'):format(options.test, test.x:size(2), path,
          train.x:size(2)))
  end
  return { train = train, test = test, columns = names[1] and names, kind = 'csv',
           classes = train.y and numbered(train, test) }
end

-- A folder's CSV files: train.csv and test.csv, or the only one. The label is a named column.
local function csv_folder(dir, set, list, options)
  local all = matching(list, '%.csv$')
  local train = set['train.csv'] and 'train.csv' or #all == 1 and all[1]
  if not train then return nil end
  local path = join(dir, train)
  local o = { label = options.label, header = options.header, separator = options.separator,
              test = train == 'train.csv' and set['test.csv'] and join(dir, 'test.csv') or nil }
  if o.label == nil then
    local _, names = csv_read(path, options)
    for _, label in ipairs(LABELS) do
      for _, name in ipairs(names) do
        if o.label == nil and name == label then o.label = label end
      end
    end
    if o.label == nil then
      raise(('%s: which column holds the labels? None is called %s: give the option label'):format(
            path, table.concat(LABELS, ', ')))
    end
  end
  return M.csv(path, o)
end

--- readers.open(dir, options): the data set in a folder, whichever of these it is: CIFAR-10's
-- binary files, MNIST's IDX files, train.csv (and test.csv) or the only CSV file, folders of images
-- by class. The result's kind says which. dir may also be one .csv or .bin file.
-- Options go to the reader: channels and workers for images, label, header and separator for CSV.
-- A folder that holds none of these raises, and the message says what was looked for.
function M.open(dir, options)
  files.check_path('open', dir)
  options = files.check_options('open', options, { channels = true, workers = true, label = true,
                                                   header = true, separator = true })
  local set, list = names_in(dir)
  if not set and dir:find '%.bin$' then return M.cifar10(dir) end
  if not set and dir:find '%.csv$' then
    return M.csv(dir, { label = options.label, header = options.header,
                        separator = options.separator })
  end
  list = list or fs.list(dir) -- raises
  if cifar_folder(dir) then return M.cifar10(dir) end
  local data = mnist_folder(dir, set)
  if data then return data end
  if image_parts(dir) then
    return M.image_folder(dir, { channels = options.channels, workers = options.workers })
  end
  data = csv_folder(dir, set, list, options)
  if data then return data end
  local found = table.concat(list, ', ', 1, math.min(#list, 8)) .. (#list > 8 and ', ...' or '')
  raise(('%s: no data set that is known here. Looked for data_batch_*.bin (CIFAR-10) here or in '
         .. 'cifar-10-batches-bin; train-images-idx3-ubyte and train-labels-idx1-ubyte (IDX), or '
         .. '.gz; a folder of PNG or JPEG files for each class, here or in train; train.csv or a '
         .. 'single .csv file. Found: %s'):format(dir, #list == 0 and 'nothing' or found))
end

return M
