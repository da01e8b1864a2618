"""Original downloads in miniature: the layout, tables and traps of each data set, made from what is documented of it.

`DOWNLOADS[name]` writes one into a folder and returns {class name: images} as `prepare` should find them.
"""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

N = 12  # images of a class: a grouped split needs ten

Expected = dict[str, int]
DOWNLOADS: dict[str, Callable[[Path], Expected]] = {}
_seed = count()


def paint(path: Path, seed: int | None = None, side: int = 48) -> None:
    """A blotchy image unlike any other."""
    rng = np.random.default_rng(next(_seed) if seed is None else seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC).save(path)


def table(path: Path, header: str, rows: list, separator: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator).writerows([header.split(separator), *rows])


def folders(name: str, pattern: str, classes: dict[str, str], also: tuple[str, ...] = ()) -> None:
    """A set with a folder a class: pattern of {folder} and {i}; `also`: files to leave alone."""

    def make(root: Path) -> Expected:
        for folder in classes:
            for i in range(N):
                paint(root / pattern.format(folder=folder, i=i))
                for other in also:
                    paint(root / other.format(folder=folder, i=i))
        return dict.fromkeys(classes.values(), N)

    DOWNLOADS[name] = make


folders(
    "BUSI",
    "Dataset_BUSI_with_GT/{folder}/{folder} ({i}).png",
    {"normal": "normal", "malignant": "malignant", "benign": "benign"},
    (
        "Dataset_BUSI_with_GT/{folder}/{folder} ({i})_mask.png",
        "Dataset_BUSI_with_GT/{folder}/{folder} ({i})_mask_1.png",
    ),
)
folders(
    "COVID_19",
    "COVID-19_Radiography_Dataset/{folder}/images/{folder}-{i}.png",
    {
        "COVID": "covid lungs",
        "Lung_Opacity": "lung opacity lungs",
        "Normal": "normal lungs",
        "Viral Pneumonia": "viral pneumonia lungs",
    },
    ("COVID-19_Radiography_Dataset/{folder}/masks/{folder}-{i}.png",),
)
folders(
    "CTKidney",
    "CT-KIDNEY-DATASET-Normal-Cyst-Tumor-Stone/{folder}/{folder}- ({i}).jpg",
    {"Normal": "normal kidney", "Cyst": "cyst kidney", "Tumor": "kidney tumor", "Stone": "kidney stone"},
)
folders(
    "LungColon",
    "lung_colon_image_set/images/{folder}/{folder}{i}.jpeg",
    {
        "colon_aca": "colon adenocarcinoma",
        "colon_n": "colon benign tissue",
        "lung_aca": "lung adenocarcinoma",
        "lung_n": "lung benign tissue",
        "lung_scc": "lung squamous cell carcinoma",
    },
)
folders(
    "CHMNIST",
    "Kather_texture_2016_image_tiles_5000/{folder}/1A1_CRC-Prim-HE-{i:02}_032.tif_Row_1951_Col_2701.tif",
    {
        "01_TUMOR": "tumour epithelium",
        "02_STROMA": "simple stroma",
        "03_COMPLEX": "complex stroma",
        "04_LYMPHO": "immune cells",
        "05_DEBRIS": "debris",
        "06_MUCOSA": "normal mucosal glands",
        "07_ADIPOSE": "adipose tissue",
        "08_EMPTY": "empty background",
    },
)
folders(
    "RETINA",
    "dataset/{folder}/{i}_left.jpg",
    {
        "cataract": "cataract",
        "diabetic_retinopathy": "diabetic retinopathy",
        "glaucoma": "glaucoma",
        "normal": "normal retina",
    },
)
TUMOURS = {"benign_tumor": "benign tumor", "malignant_tumor": "malignant tumor"}
folders("BUSBRA", "BUSBRA/{folder}/bus_{i:04}-l.png", TUMOURS)
folders("BUID", "BUID/{folder}/{i} Image.bmp", TUMOURS)
folders("UDIAT", "UDIAT/{folder}/{i:06}.png", TUMOURS)
BRAINS = {
    name.replace(" ", "_"): name for name in ("glioma tumor", "meningioma tumor", "pituitary tumor", "normal brain")
}
folders("BTMRI_S", "BTMRI-S/{folder}/gg ({i}).jpg", BRAINS)
ENDOSCOPY = (
    "dyed-lifted-polyps dyed-resection-margins esophagitis normal-cecum normal-pylorus normal-z-line polyps "
    "ulcerative-colitis"
).split()
folders(  # the copy that nests each class folder twice
    "KVASIR",
    "kvasir-dataset-v2/{folder}/{folder}/0123abcd-0000-4000-8000-0000000000{i:02}.jpg",
    {f: f.replace("normal-z-line", "normal z-line").replace("-", " ").replace("z line", "z-line") for f in ENDOSCOPY},
)
folders(
    "Kvasir",
    "kvasir-dataset/{folder}/0123abcd-0000-4000-8000-0000000000{i:02}.jpg",
    {f: f.replace("-", " ") for f in ENDOSCOPY},
)


def download(name: str):
    def register(make: Callable[[Path], Expected]) -> Callable[[Path], Expected]:
        DOWNLOADS[name] = make
        return make

    return register


@download("ADAM")
def adam(root: Path) -> Expected:
    """The unlabelled images of the challenge lie below a folder AMD too."""
    for i in range(N):
        paint(root / f"AMD/Training400/AMD/A{i:04}.jpg")
        paint(root / f"AMD/Training400/Non-AMD/N{i:04}.jpg")
        paint(root / f"AMD/Validation400/V{i:04}.jpg")
    return {"normal fundus": N, "fundus with age-related macular degeneration": N}


@download("APTOS")
def aptos(root: Path) -> Expected:
    """test.csv has no labels."""
    rows = [(f"{grade}f{i:03}", grade) for grade in range(5) for i in range(N)]
    table(root / "train.csv", "id_code,diagnosis", rows)
    table(root / "test.csv", "id_code", [("0a",), ("0b",)])
    for name, _ in rows:
        paint(root / f"train_images/{name}.png")
    paint(root / "test_images/0a.png")
    return dict.fromkeys(GRADES, N)


def medmnist(name: str, flag: str, classnames: list[str], colour: bool) -> None:
    def make(root: Path) -> Expected:
        arrays, rng = {}, np.random.default_rng(next(_seed))
        for split, n in {"train": 6, "val": 2, "test": 4}.items():
            labels = np.repeat(np.arange(len(classnames)), n)
            shape = (len(labels), 28, 28, *([3] if colour else []))
            arrays |= {f"{split}_images": rng.integers(0, 256, shape, np.uint8), f"{split}_labels": labels[:, None]}
        np.savez_compressed(root / f"{flag}.npz", **arrays)
        return dict.fromkeys(classnames, N)

    DOWNLOADS[name] = make


medmnist(
    "BLOODMNIST",
    "bloodmnist",
    [
        "basophil",
        "eosinophil",
        "erythroblast",
        "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
        "lymphocyte",
        "monocyte",
        "neutrophil",
        "platelet",
    ],
    colour=True,
)
medmnist(
    "DERMAMNIST",
    "dermamnist",
    [
        "actinic keratoses and intraepithelial carcinoma",
        "basal cell carcinoma",
        "benign keratosis-like lesions",
        "dermatofibroma",
        "melanoma",
        "melanocytic nevi",
        "vascular lesions",
    ],
    colour=True,
)
medmnist(
    "DermaMNIST",
    "dermamnist",
    [
        "actinic keratosis",
        "basal cell carcinoma",
        "benign keratosis",
        "dermatofibroma",
        "melanoma",
        "melanocytic nevus",
        "vascular lesion",
    ],
    colour=True,
)
GRADES = [f"{grade} diabetic retinopathy" for grade in "no mild moderate severe proliferative".split()]
ORGANS = "bladder;left femur;right femur;heart;left kidney;right kidney;liver;left lung;right lung;pancreas;spleen"
TISSUES = "adipose tissue;empty background;debris;lymphocytes;mucus;smooth muscle;normal colon mucosa;"
TISSUES += "cancer-associated stroma;colorectal adenocarcinoma epithelium"
CELLS = "collecting duct or connecting tubule;distal convoluted tubule;glomerular endothelial cell;"
CELLS += "interstitial endothelial cell;leukocyte;podocyte;proximal tubule segment;thick ascending limb"
medmnist("PATHMNIST", "pathmnist", TISSUES.split(";"), colour=True)
medmnist("BREASTMNIST", "breastmnist", ["malignant", "normal or benign"], colour=False)
medmnist("RETINAMNIST", "retinamnist", GRADES, colour=True)
medmnist("TISSUEMNIST", "tissuemnist", CELLS.split(";"), colour=False)
for view in "ACS":
    medmnist(f"ORGAN{view}MNIST", f"organ{view.lower()}mnist", ORGANS.split(";"), colour=False)
medmnist(
    "OCTMNIST",
    "octmnist",
    ["choroidal neovascularization", "diabetic macular edema", "drusen", "normal OCT scan"],
    colour=False,
)


def in_names(name: str, parts: dict[str, int]) -> None:
    """The published split stands in the file names."""

    def make(root: Path) -> Expected:
        for folder in BRAINS:
            for part, n in parts.items():
                for i in range(n):
                    paint(root / f"{name}/{folder}/{folder}_{part}_{i:04}.jpg")
        return dict.fromkeys(BRAINS.values(), N)

    DOWNLOADS[name] = make


in_names("BRISC", {"train": 8, "test": 4})
in_names("BTMRI_P", {"train": 8, "val": 1, "test": 3})


@download("BTMRI")
def btmri(root: Path) -> Expected:
    names = {"glioma": "glioma tumor", "meningioma": "meningioma tumor", "pituitary": "pituitary tumor"}
    names |= {"notumor": "normal brain"}
    for folder in names:
        for i in range(N):
            paint(root / f"{'Training' if i < 8 else 'Testing'}/{folder}/{folder}_{i:04}.jpg")
    return dict.fromkeys(names.values(), N)


@download("CHAOYANG")
def chaoyang(root: Path) -> Expected:
    names = ("normal", "serrated", "adenocarcinoma", "adenoma")
    for split, n in {"train": 8, "test": 4}.items():
        rows = [
            {"name": f"{split}/{split}{i}-IMG005x014-{label}.JPG", "label": label}
            for label in range(4)
            for i in range(n)
        ]
        for row in rows:
            paint(root / row["name"])
        (root / f"{split}.json").write_text(json.dumps(rows))
    return dict.fromkeys(names, N)


@download("CPN_X_RAY")
def cpn(root: Path) -> Expected:
    """A zip in a zip."""
    inner = root / "Covid19-Pneumonia-Normal Chest X-Ray Images Dataset.zip"
    with zipfile.ZipFile(inner, "w") as archive:
        for folder in ("COVID", "NORMAL", "PNEUMONIA"):
            for i in range(N):
                paint(root / "one.png")
                archive.write(root / "one.png", f"{folder}/{folder}_{i}.png")
    with zipfile.ZipFile(root / "dvntn9yhd2-1.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(inner, f"dvntn9yhd2-1/{inner.name}")
    inner.unlink()
    (root / "one.png").unlink()
    return {"normal": N, "covid": N, "pneumonia": N}


@download("Derm7pt")
def derm7pt(root: Path) -> Expected:
    diagnoses = {
        "basal cell carcinoma": "carcinoma",
        "seborrheic keratosis": "keratosis",
        "melanoma (less than 0.76 mm)": "melanoma",
        "vascular lesion": "miscellaneous",
        "clark nevus": "nevus",
    }
    rows, parts = [], {"train": [], "valid": [], "test": []}
    for diagnosis in diagnoses:
        for i in range(N):
            parts["train" if i < 6 else "valid" if i < 8 else "test"].append((len(rows),))
            name = f"NEL/Nel{len(rows):03}.jpg"
            paint(root / "release_v0/images" / name)
            rows.append((len(rows), diagnosis, "clinical.jpg", name))
    table(root / "release_v0/meta/meta.csv", "case_num,diagnosis,clinic,derm", rows)
    for part, indexes in parts.items():
        table(root / f"release_v0/meta/{part}_indexes.csv", "indexes", indexes)
    return dict.fromkeys(diagnoses.values(), N)


@download("FETAL_US")
def fetal(root: Path) -> Expected:
    """Semicolons; names and values with trailing blanks; many images of one patient."""
    planes = ("Fetal brain", "Fetal femur", "Fetal abdomen", "Fetal thorax", "Maternal cervix", "Other")
    rows = []
    for i in range(N):
        for j, plane in enumerate(planes):
            name = f"Patient{i:05}_Plane{j}_{j}_of_6"
            rows.append((name, f"{i} ", plane, "Not A Brain", "Op. 1", "Voluson", f"{int(i < 8)} "))
            paint(root / f"Images/{name}.png")
    header = "Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train "
    table(root / "FETAL_PLANES_DB_data.csv", header, rows, ";")
    return {**dict.fromkeys(planes[:5], N), "Other planes": N}


@download("ISIC")
def isic(root: Path) -> Expected:
    """One-hot tables of three parts, two images a lesion, one of the parts still zipped."""
    names = "Melanoma;Melanocytic nevus;Basal cell carcinoma;Actinic keratosis;Benign keratosis;Dermatofibroma;"
    names = (names + "Vascular lesion").split(";")
    lesions = []
    for part, n in {"Training": 8, "Validation": 1, "Test": 3}.items():
        rows, base = [], f"ISIC2018_Task3_{part}"
        for label in range(7):
            for i in range(n):
                name = f"ISIC_{part}{label}{i:03}"
                rows.append((name, *(float(k == label) for k in range(7))))
                paint(root / f"{base}_Input/{name}.jpg")
                lesions += [(name, f"HAM_{label}{i // 2}")] if part == "Training" else []
        table(root / f"{base}_GroundTruth/{base}_GroundTruth.csv", "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC", rows)
    table(root / "ISIC2018_Task3_Training_LesionGroupings.csv", "image,lesion_id", lesions)
    zipped = root / "ISIC2018_Task3_Test_Input"
    with zipfile.ZipFile(root / f"{zipped.name}.zip", "w") as archive:
        for path in sorted(zipped.iterdir()):
            archive.write(path, f"{zipped.name}/{path.name}")
            path.unlink()
    zipped.rmdir()
    return dict.fromkeys(names, N)


ODIR = "normal;diabetes;glaucoma;cataract;age related macular degeneration;hypertension;pathological myopia;"
ODIR = (ODIR + "other diseases or abnormalities").split(";")


@download("ODIR")
def odir(root: Path) -> Expected:
    """Columns N to O are a patient's: each patient here has one ill and one normal eye, so N = 0 for all."""
    rows = []
    for k, letter in enumerate("DGCAHMO", 1):
        for i in range(N):
            patient = k * 100 + i
            for side, label in {"left": letter, "right": "N"}.items():
                file = f"{patient}_{side}.jpg"
                onehot = [int(c == letter) for c in "NDGCAHMO"]
                rows.append((patient, *onehot, f"['{label}']", file))
                paint(root / f"ODIR-5K/ODIR-5K/Training Images/{file}")
    table(root / "full_df.csv", "ID,N,D,G,C,A,H,M,O,labels,filename", rows)
    return {"normal": 7 * N, **dict.fromkeys(ODIR[1:], N)}


@download("ODIR2")
def odir2(root: Path) -> Expected:
    """The original Excel sheet alone: keywords tell which eye is the normal one."""
    import openpyxl

    book = openpyxl.Workbook()
    keys = ["Left-Fundus", "Right-Fundus", "Left-Diagnostic Keywords", "Right-Diagnostic Keywords", *"NDGCAHMO"]
    book.active.append(["ID", *keys])
    for i in range(N):
        onehot = [int(c == "C") for c in "NDGCAHMO"]
        book.active.append([i, f"{i}_left.jpg", f"{i}_right.jpg", "cataract", "normal fundus", *onehot])
        paint(root / f"ODIR-5K_Training_Images/{i}_left.jpg")
        paint(root / f"ODIR-5K_Training_Images/{i}_right.jpg")
    both = [int(c in "CG") for c in "NDGCAHMO"]  # which eye has which disease is not said
    book.active.append([99, "99_left.jpg", "99_right.jpg", "cataract", "glaucoma", *both])
    paint(root / "ODIR-5K_Training_Images/99_left.jpg")
    paint(root / "ODIR-5K_Training_Images/99_right.jpg")
    book.save(root / "ODIR-5K_Training_Annotations(Updated)_V2.xlsx")
    return {"normal": N, "cataract": N}


def kermany(root: Path) -> None:
    for split, n in {"train": 8, "val": 1, "test": 3}.items():
        for i in range(n):
            patient = f"{'train val test'.split().index(split)}{i}"
            paint(root / f"chest_xray/{split}/NORMAL/IM-0{patient}-0001.jpeg")
            paint(root / f"chest_xray/{split}/NORMAL/NORMAL2-IM-0{patient}-0001.jpeg")
            paint(root / f"chest_xray/{split}/PNEUMONIA/person{patient}_bacteria_{i}.jpeg")
            paint(root / f"chest_xray/{split}/PNEUMONIA/person{patient}_virus_{i}.jpeg")


@download("PNEUMONIA2")
def pneumonia2(root: Path) -> Expected:
    kermany(root)
    return {"normal": 2 * N, "pneumonia": 2 * N}


@download("PNEUMONIA3")
def pneumonia3(root: Path) -> Expected:
    kermany(root)
    return {"normal": 2 * N, "bacteria pneumonia": N, "virus pneumonia": N}


@download("KneeXray")
def knee(root: Path) -> Expected:
    """Both knees of a patient; auto_test repeats images."""
    names = "healthy knee;doubtful osteoarthritis;minimal osteoarthritis;moderate osteoarthritis;severe osteoarthritis"
    for grade in range(5):
        for split, n in {"train": 3, "val": 1, "test": 2}.items():
            for i in range(n):
                for side in "LR":
                    patient = 9000000 + grade * 1000 + "train val test".split().index(split) * 100 + i
                    path = root / f"KneeXrayData/ClsKLData/kneeKL224/{split}/{grade}/{patient}{side}.png"
                    paint(path)
                    copy = root / f"KneeXrayData/ClsKLData/kneeKL224/auto_test/{grade}/{path.name}"
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copy.write_bytes(path.read_bytes())
    return dict.fromkeys(names.split(";"), N)
